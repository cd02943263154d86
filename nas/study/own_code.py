"""A user's own code while a study runs: what it raises is told in one line, with where it came from."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foundation.error_text import told
from foundation.errors import EvaluationFailed, NasError
from nas.study.source_files import is_of_project


@contextmanager
def own_code(what: str, module: str) -> Iterator[None]:
    """Turn what code of this module raises into `EvaluationFailed`, if the module is not the project's.

    Errors of the project pass: they are in words already.

    Raises:
        EvaluationFailed: with what was raised, and where.
    """
    try:
        yield
    except NasError:
        raise
    except Exception as error:  # a user's code may raise anything; it is their line that helps them
        if is_of_project(module):
            raise
        raise EvaluationFailed(f"{what} raised {told(error)}{_place(error, module)}") from error


def _place(error: BaseException, module: str) -> str:
    """The last line of this module that an error came through."""
    file = getattr(sys.modules.get(module), "__file__", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" ({Path(file).name}:{lines[-1]})" if file and lines else ""
