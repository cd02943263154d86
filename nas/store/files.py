"""The files of a study: where they lie, and how they are written so that no reader meets half of one."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path

from nas.store.location import sqlite_path
from search_spaces.errors import SettingError, StoreError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


def check_study_name(name: str) -> None:
    """Refuse a name that could not be a folder everywhere.

    Raises:
        SettingError: it holds anything but letters, digits, '.', '_' and '-', or is too long.
    """
    if not NAME.fullmatch(name):
        raise SettingError(
            "a study's name is made of letters, digits, '.', '_' and '-', begins with a letter, a digit or"
            f" '_' and has at most 100 characters; got {name!r}"
        )


def study_folder(store: str | Path, study: str) -> Path:
    """Where a study keeps its files: a folder of its name beside the SQLite file, or in ./studies.

    Raises:
        SettingError: the name cannot be a folder, or is that of the database itself.
    """
    check_study_name(study)
    database = sqlite_path(store)
    if database is None:
        return Path("studies", study)
    folder = database.parent / study
    if folder.name.startswith(database.name):
        raise SettingError(f"a study beside {database} cannot be named {study!r}: choose another name")
    return folder


def write_atomically(path: str | Path, content: bytes | str) -> None:
    """Write a file as a whole or not at all; what was there before stays until then.

    Raises:
        StoreError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    new = path.with_name(f".{secrets.token_hex(6)}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_through(new, content.encode() if isinstance(content, str) else content)
        os.replace(new, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)


def _write_through(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """The new name is on the disk, too, once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
