"""A study keeps the source of its space: copied before the record names it, and its own from then on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foundation.errors import FileError
from nas.store import Store
from nas.store.folders import alone_in, clear, is_left_over
from nas.store.study_paths import study_folder
from nas.study.source import FOLDER, Source
from nas.study.source_loading import require_unchanged
from nas.study.study import Study
from nas.study.user_files import move_folder


@contextmanager
def kept_source(store: Store, name: str, source: Source | None) -> Iterator[Source | None]:
    """The source of a study as its own copy, while its record is made; see `create_study`.

    Raises:
        SettingError: the study was begun under another version.
        StoreError: another process works on the study.
        FileError: the copy cannot be written.
    """
    if store.holds(name):
        yield _of_known(Study(store, store.study(name)), source)
        return
    if source is None:
        yield None
        return
    folder = study_folder(store.url, name)
    if is_left_over(folder):
        with alone_in(folder):
            clear(folder)
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone_in(folder):
            yield _copied(source, folder / FOLDER)
    except OSError as error:
        raise FileError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        if made and not store.holds(name):
            shutil.rmtree(folder, ignore_errors=True)


def is_other_source(recorded: object, source: Source | None) -> bool:
    """Whether a source is not the one that a record holds, which somebody else may have made."""
    files = recorded.get("files") if isinstance(recorded, dict) else None
    return source is not None and files != dict(source.files)


def _of_known(study: Study, source: Source | None) -> Source | None:
    """The source of a study that there is; `source` is what is there now, and its space is loaded."""
    own = study.source
    if source is None:
        return own
    if own is None:
        return _adopted(study, source)
    require_unchanged(study.name, own, source)
    if not own.is_like(source):
        return own
    try:
        own.check()
    except FileError:  # the original is whole, so the copy can be made again
        return _adopted(study, source)
    if own.parts is not None and own.files != source.files:  # the same definitions, as they are written now
        return _adopted(study, source)
    move_folder(source.folder, own.folder)
    return own


def _adopted(study: Study, source: Source) -> Source:
    """A source for a study that has none on record, or whose copy is gone or was written otherwise."""
    study.folder.mkdir(parents=True, exist_ok=True)
    with alone_in(study.folder):
        copy = _copied(source, study.folder / FOLDER)
    config = study.store.study(study.name).config
    study.store.update_config(study.record.id, {**config, "source": copy.to_plain()})
    return copy


def _copied(source: Source, folder: Path) -> Source:
    copy = source.copied(folder)
    move_folder(source.folder, copy.folder)
    return copy
