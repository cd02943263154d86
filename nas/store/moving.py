"""Studies are copied and removed as a whole: the record, the trials, the measurements and the folder.

A kill in the middle leaves a whole study or none; what it leaves of files is cleared by whoever wants the
name next.
"""

from __future__ import annotations

from pathlib import Path

from foundation.errors import FileError, SettingError, StoreError
from nas.store.folders import alone_in, clear, copy_files, is_left_over, mark, unmark
from nas.store.store import Store
from nas.store.study_paths import check_study_name, study_folder


def copy_study(source: Store, name: str, target: Store, new: str) -> Path:
    """Copy a study with all its files, also into another store; the new folder.

    Raises:
        UnknownName: there is no such study.
        StoreError: the new name is taken, or a process works on the study.
        FileError: a file cannot be copied.
    """
    rows = source.rows(name)
    check_study_name(new)
    origin, folder = study_folder(source.url, name), study_folder(target.url, new)
    if target.holds(new):
        raise StoreError(f"there is a study {new!r} in {target.url} already: choose another name")
    if folder.exists():
        if not is_left_over(folder):
            raise FileError(f"{folder} exists, and belongs to no study: choose another name or remove it")
        clear(folder)
    mark(folder)
    try:
        with alone_in(origin), alone_in(folder):
            copy_files(origin, folder)
            target.add_rows(new, rows)
    finally:
        if target.holds(new):
            unmark(folder)
        else:
            clear(folder)
    return folder


def remove_study(store: Store, name: str) -> Path | None:
    """Remove a study with all its files, or what was left of a removal; the folder, where there was one.

    Raises:
        UnknownName: there is no such study.
        StoreError: a process works on it.
        FileError: a file cannot be removed.
    """
    folder, recorded = folder_of(store, name), store.holds(name)
    if folder is None or not folder.is_dir():
        store.delete_study(name)
        return None
    if not recorded and not is_left_over(folder):
        store.delete_study(name)  # which says that there is none
    with alone_in(folder):
        mark(folder)
        if recorded:
            store.delete_study(name)
        clear(folder)
    return folder


def folder_of(store: Store, name: str) -> Path | None:
    """The folder of a study; None where a foreign name can have none."""
    try:
        return study_folder(store.url, name)
    except SettingError:
        return None
