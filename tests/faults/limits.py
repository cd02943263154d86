"""Many readings of files in one process that may take so much memory and no more: what fuzzing runs in."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from foundation.errors import NasError
from tests.forks import Fork
from tests.limits import limit_process

MEGABYTES, CPU_SECONDS = 200, 120


def read_within_limits(read: Callable[[Path], Any], files: Iterable[Path]) -> None:
    """Read every file in a process of its own: only a `NasError` of one line may come out, and no warning."""
    ended = Fork(_read_all, read, [str(path) for path in files]).wait(timeout=600)
    assert ended.returncode == 0, ended
    assert not ended.stderr, ended
    assert not ended.stdout, ended.stdout


def _read_all(read: Callable[[Path], Any], files: list[str]) -> None:
    limit_process(CPU_SECONDS, MEGABYTES)
    warnings.simplefilter("error")
    for path in files:
        try:
            read(Path(path))
        except NasError as error:
            if "\n" in str(error) or len(str(error)) > 2_000:
                sys.stdout.write(f"{path}: {len(str(error))} characters: {str(error)[:500]!r}\n")
        except BaseException:
            sys.stdout.write(f"{path}: {Path(path).read_bytes()[:3_000]!r}\n{traceback.format_exc()}\n")
