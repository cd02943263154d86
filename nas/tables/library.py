"""Latency tables that were brought here: a folder of JSON files, each with a name.

A device that a search cannot reach is served by one command there, `nas profile SPACE -o table.json`, and one
here, `nas profile import table.json`. An imported table may be of another machine: importing it confirms
that this is intended, and is noted in it. The folder is `tables` beside the studies of a store, or that
of the variable NAS_TABLES.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from foundation.errors import ProfileError, UnknownName
from foundation.registry import nearest
from foundation.wording import argument
from hw_profiles.latency.table import LatencyTable
from nas.default_paths import DEFAULT_STORE, TABLES
from nas.store.study_paths import studies_folder

IMPORTED = "imported on "
"""How the note of an imported table begins."""

_NAME = re.compile(r"[\w.-]{0,99}\w[\w.-]{0,99}")


@dataclass(frozen=True)
class Entry:
    """A table in the library."""

    name: str
    path: Path
    table: LatencyTable


@dataclass(frozen=True)
class Unreadable:
    """A file in the library that holds no table, and why."""

    name: str
    path: Path
    why: str


def folder(store: str | Path | None = None) -> Path:
    """Where imported tables lie: beside the studies of a store, that of NAS_STORE where none is named."""
    if given := os.environ.get("NAS_TABLES"):
        return Path(given).absolute()
    beside = os.environ.get("NAS_STORE", DEFAULT_STORE) if store is None else store
    return (studies_folder(beside) / TABLES).absolute()


def is_imported(table: LatencyTable) -> bool:
    """Whether a table was imported."""
    return any(note.startswith(IMPORTED) for note in table.provenance.notes)


def entries(store: str | Path | None = None) -> list[Entry | Unreadable]:
    """All tables of the library, by name; a file that is none does not stand in the way of the others."""
    return [_entry(path) for path in sorted(folder(store).glob("*.json"))]


def _entry(path: Path) -> Entry | Unreadable:
    try:
        return Entry(path.stem, path, LatencyTable.load(path, allow_other_machine=True))
    except ProfileError as error:
        return Unreadable(path.stem, path, str(error))


def add(source: Path, name: str | None = None, *, store: str | Path | None = None) -> Entry:
    """Take a table into the library; the same table twice is one.

    Raises:
        ProfileError: it is no table, or another one has the name.
    """
    name = source.stem if name is None else name
    if not _NAME.fullmatch(name):
        raise ProfileError(
            f"a table needs a name of letters, digits, dots and dashes, at most 100, got {name!r:.100}"
        )
    table = LatencyTable.load(source, allow_other_machine=True)
    path = folder(store) / f"{name}.json"
    if path.exists():
        present = LatencyTable.load(path, allow_other_machine=True)
        if without_note(present).to_plain() != without_note(table).to_plain():
            raise ProfileError(
                f"the library has another table {name!r} ({present.space_name}): give a {argument('name')}"
            )
        return Entry(name, path, present)
    note = f"{IMPORTED}{datetime.now(UTC).date().isoformat()}"
    table = _noted(without_note(table), note)
    table.save(path)
    return Entry(name, path, table)


def without_note(table: LatencyTable) -> LatencyTable:
    """The table as it was before it was imported."""
    kept = tuple(note for note in table.provenance.notes if not note.startswith(IMPORTED))
    return replace(table, provenance=replace(table.provenance, notes=kept))


def _noted(table: LatencyTable, note: str) -> LatencyTable:
    return replace(table, provenance=replace(table.provenance, notes=(*table.provenance.notes, note)))


def find(source: str, store: str | Path | None = None) -> Path:
    """The file of a table: a path, or the name of one that was imported beside a store.

    Raises:
        UnknownName: neither.
    """
    if source.endswith(".json") or Path(source).is_file():
        return Path(source)
    there = folder(store)
    path = there / f"{source}.json"
    if not path.is_file():
        names = [file.stem for file in there.glob("*.json")]
        raise UnknownName(f"no table {source!r} was imported to {there}; {nearest(source, names)}")
    return path


def named_table(source: str, store: str | Path | None = None) -> LatencyTable:
    """The table at a path, or the imported one of this name, of whichever machine.

    Raises:
        UnknownName: neither.
        ProfileError: the file is no table.
    """
    return LatencyTable.load(find(source, store), allow_other_machine=True)
