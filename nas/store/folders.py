"""The folder of a study as a whole: who works in it, and whether it belongs to a record at all.

A folder and a record cannot change in one transaction. So a folder that has no record yet, because it is
being copied, or none any more, because it is being removed, holds a mark: whoever wants the name next clears
what a killed process left under it. Beside a record the mark means nothing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from foundation.errors import FileError, StoreError
from foundation.files import flush

MARK = ".without-record"
LOCK = ".in-use"
OWN = (MARK, LOCK)
"""Files that belong to the folder, not to the study."""

WAITS = (0.01, 0.05, 0.0)
"""Seconds after each try to have a folder: whoever asks whether it is `in_use` holds it for a moment."""


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Work on a study; several processes may, but meanwhile it is neither copied nor removed.

    Raises:
        StoreError: it is being copied or removed.
        FileError: the folder cannot be written.
    """
    with _locked(folder, fcntl.LOCK_SH, f"study {folder.name} is being copied or removed: try again later"):
        yield


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Have the folder of a study to oneself.

    Raises:
        StoreError: a process works on the study.
    """
    if not folder.is_dir() or not os.access(folder, os.W_OK):  # nobody has worked there, or nobody can
        yield
        return
    busy = f"study {folder.name} is being worked on by another process: wait for it or stop it"
    with _locked(folder, fcntl.LOCK_EX, busy):
        yield


def in_use(folder: Path) -> bool:
    """Whether a process of this machine works on the study; nothing is changed or made."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # nobody has ever worked there
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def _locked(folder: Path, mode: int, busy: str) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise FileError(f"cannot use the folder {folder}: {error.strerror}") from error
    try:
        if not _taken(descriptor, mode):
            raise StoreError(busy)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int, mode: int) -> bool:
    """Whether the lock could be had."""
    for wait in WAITS:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(wait)
    return False


def mark(folder: Path) -> None:
    """Say that the folder may be without a record from now on.

    Raises:
        FileError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).touch()  # nothing but the mark: another file could be left by a kill before it
        flush(folder)
    except OSError as error:
        raise FileError(f"cannot write to {folder}: {error.strerror}") from error


def unmark(folder: Path) -> None:
    """Say that the folder belongs to a record for good."""
    (folder / MARK).unlink(missing_ok=True)


def is_left_over(folder: Path) -> bool:
    """Whether the folder, if the store holds no study of its name, is what a killed process left."""
    return folder.is_dir() and (
        (folder / MARK).exists() or {path.name for path in folder.iterdir()} <= {LOCK}
    )


def link_files(source: Path, target: Path) -> None:
    """The same files under another folder, whose first ones are then to be removed.

    Raises:
        FileError: a file cannot be read or written, or is none (a pipe, a socket).
    """
    copy_files(source, target, _link)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a file system without hard links
        return shutil.copy2(source, target, follow_symlinks=False)
    return target


def copy_files(source: Path, target: Path, copy: Callable[[str, str], object] = shutil.copy2) -> None:
    """Copy the files of a study into the folder of another.

    Raises:
        FileError: a file cannot be read or written, or is none (a pipe, a socket).
    """
    if not source.is_dir():
        return
    own = shutil.ignore_patterns(*OWN)
    try:
        shutil.copytree(source, target, symlinks=True, ignore=own, copy_function=copy, dirs_exist_ok=True)
    except shutil.Error as error:
        path, _, reason = error.args[0][0]
        raise FileError(f"cannot copy {path}: {reason}") from error
    except OSError as error:
        raise FileError(f"cannot copy {source} to {target}: {error.strerror or error}") from error


def clear(folder: Path) -> None:
    """Remove a marked folder, the mark last, so that what a kill leaves is still marked.

    Raises:
        FileError: something cannot be removed.
    """
    try:
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != MARK:
                path.unlink()
        unmark(folder)
        folder.unlink() if folder.is_symlink() else folder.rmdir()
    except OSError as error:
        raise FileError(f"cannot remove {error.filename or folder}: {error.strerror}") from error
