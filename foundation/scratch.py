"""Scratch folders: where files are written until they are whole, and renamed to where they belong.

    with scratch_folder(folder) as scratch:         # removed at the end with all that is still in it
        write(scratch / "file")
        os.replace(scratch / "file", folder / "file")

Who is killed cannot remove anything. So a writer holds a lock (flock) on its scratch folder, which ends with
its process, and whoever writes into the same folder next removes those that nobody holds any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

NAME = re.compile(r"\.[0-9a-f]{12}\.new")
"""The name of a scratch folder."""


@contextlib.contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """An empty folder of its own name in a folder.

    Raises:
        OSError: the folder cannot be written.
    """
    _remove_abandoned(folder)
    scratch, lock = _made(folder)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(lock)


def _made(folder: Path) -> tuple[Path, int]:
    """A new scratch folder, and the descriptor that holds it."""
    while True:
        scratch = folder / f".{secrets.token_hex(6)}.new"
        scratch.mkdir()
        try:
            lock = os.open(scratch, os.O_RDONLY)
        except FileNotFoundError:  # who looked before it was held took it for abandoned
            continue
        except OSError:
            scratch.rmdir()
            raise
        _try_to_hold(lock)
        if scratch.exists():
            return scratch, lock
        os.close(lock)


def _remove_abandoned(folder: Path) -> None:
    names: list[str] = []
    with contextlib.suppress(OSError):  # a folder may be written without being read
        names = [name for name in os.listdir(folder) if NAME.fullmatch(name)]
    for name in names:
        with contextlib.suppress(OSError):  # another process removes it, or it is not ours to remove
            lock = os.open(folder / name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if _try_to_hold(lock):
                    shutil.rmtree(folder / name)
            finally:
                os.close(lock)


def _try_to_hold(lock: int) -> bool:
    """Whether nobody else holds it; a file system without locks says that somebody does."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
