"""Studies are copied, moved, merged and removed whole: record, trials, measurements and folder.

A kill in the middle leaves a whole study or none; what it leaves of files is cleared by whoever wants the
name next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from foundation.errors import FileError, SettingError
from nas.store.folders import alone_in, clear, copy_files, is_left_over, link_files, mark, unmark
from nas.store.merging import merged_rows
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
    with _new_folder(target, new) as folder, alone_in(origin := study_folder(source.url, name)):
        copy_files(origin, folder)
        target.add_rows(new, rows)
    return folder


def move_study(store: Store, name: str, new: str) -> Path:
    """Give a study another name; its new folder. Files are moved, however large they are.

    Raises:
        UnknownName: there is no such study.
        StoreError: the new name is taken, or a process works on the study.
        FileError: a file cannot be moved.
    """
    store.require(name)  # a name that there is not makes no folder
    origin = study_folder(store.url, name)
    with _new_folder(store, new) as folder, alone_in(origin):
        link_files(origin, folder)
        if origin.is_dir():
            mark(origin)  # from the next line on it is without a record
        store.rename_study(name, new)
        if origin.is_dir():
            clear(origin)
    return folder


def merge_studies(store: Store, names: Sequence[str], new: str, config: Mapping[str, Any]) -> Path:
    """A study with the trials, the measurements and the files of several, and a record of this `config`.

    Whether they belong together is for the caller to say: see `nas.study.merging`.

    Raises:
        UnknownName: there is no such study.
        StoreError: the new name is taken, a process works on one of them, or a record cannot be read.
        FileError: a file cannot be copied.
    """
    origins = [study_folder(store.url, name) for name in names]
    with _new_folder(store, new) as folder, ExitStack() as locks:
        for origin in origins:
            locks.enter_context(alone_in(origin))
        rows = merged_rows([store.rows(name) for name in names], config)
        for origin in reversed(origins):  # what several have is that of the first
            copy_files(origin, folder)
        store.add_rows(new, rows)
    return folder


@contextmanager
def _new_folder(store: Store, new: str) -> Iterator[Path]:
    """The folder of a study that is being made, to oneself; it is gone again where no study came of it.

    Raises:
        StoreError: the name is taken.
        FileError: the folder belongs to no study, or cannot be written.
    """
    check_study_name(new)
    folder = study_folder(store.url, new)
    if store.holds(new):
        raise store.taken(new)
    if folder.exists():
        if not is_left_over(folder):
            raise FileError(f"{folder} exists, and belongs to no study: choose another name or remove it")
        clear(folder)
    mark(folder)
    try:
        with alone_in(folder):
            yield folder
    finally:
        if store.holds(new):
            unmark(folder)
        else:
            clear(folder)


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
