"""The files of a study: where they lie, and what a study may be called."""

from __future__ import annotations

import re
from pathlib import Path

from foundation.errors import SettingError
from nas.default_paths import TABLES
from nas.store.location import check_file, sqlite_path

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")

DEVICE = re.compile(r"(con|prn|aux|nul|com[1-9]|lpt[1-9])(\..*)?", re.IGNORECASE)
"""What Windows takes for a device in every folder."""

SHOWN = 120
"""A longer name is cut in messages."""


def check_study_name(name: str) -> None:
    """Refuse a name that could not be a folder everywhere.

    Raises:
        SettingError: it holds anything but letters, digits, '.', '_' and '-', is too long, or is taken by
            what lies beside the studies, or by Windows.
    """
    if not isinstance(name, str):
        raise SettingError(f"a study's name is text, got {name!r}")
    if not NAME.fullmatch(name) or name.endswith("."):
        raise SettingError(
            "a study's name is made of letters, digits, '.', '_' and '-', begins with a letter, a digit or"
            " '_', does not end with '.', and has at most 100 characters; got"
            f" {name if len(name) <= SHOWN else name[:SHOWN] + '...'!r}"
        )
    if name.casefold() == TABLES or DEVICE.fullmatch(name):
        raise SettingError(f"a study cannot be named {name!r}: the name is taken; choose another name")


def check_place(store: str | Path, study: str) -> None:
    """Refuse, before anything is made, a store that cannot be one, or a study whose files have no place.

    Raises:
        StoreError: the store is a folder, a device, or below a file.
        SettingError: the study's name cannot be a folder, or a file is in its way.
    """
    database = sqlite_path(store)
    if database is not None:
        check_file(database, read_only=False)
    folder = study_folder(store, study)
    there = next(place for place in (folder, *folder.parents) if place.exists() or place.is_symlink())
    if not there.is_dir():
        raise SettingError(
            f"the files of the study would lie in {folder}, but {there} is a file: choose another name, or"
            " move it away"
        )


def studies_folder(store: str | Path) -> Path:
    """Where the folders of studies lie: beside the SQLite file, or in ./studies."""
    database = sqlite_path(store)
    return Path("studies") if database is None else database.parent


def study_folder(store: str | Path, study: str) -> Path:
    """Where a study keeps its files: a folder of its name beside the SQLite file, or in ./studies.

    Raises:
        SettingError: the name cannot be a folder, or is that of the database itself.
    """
    check_study_name(study)
    folder, database = studies_folder(store) / study, sqlite_path(store)
    if database is None:
        return folder
    if folder.name.startswith(database.name):
        raise SettingError(f"a study beside {database} cannot be named {study!r}: choose another name")
    return folder
