"""The files of a study: where they lie, and what a study may be called."""

from __future__ import annotations

import re
from pathlib import Path

from foundation.errors import SettingError
from nas.store.location import sqlite_path

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
