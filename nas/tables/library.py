"""Latency tables that were brought here: a folder of JSON files, each with a name.

A device that a search cannot reach is served by one command there, `nas profile SPACE -o table.json`, and one
here, `nas profile import table.json`. An imported table may be of another machine: importing it confirms
that this is intended, and is noted in it. The folder is `studies/tables`, or that of the variable NAS_TABLES.
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
from nas.default_paths import DEFAULT_TABLES

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


def folder() -> Path:
    """Where imported tables lie."""
    return Path(os.environ.get("NAS_TABLES", DEFAULT_TABLES)).absolute()


def is_imported(table: LatencyTable) -> bool:
    """Whether a table was imported."""
    return any(note.startswith(IMPORTED) for note in table.provenance.notes)


def entries() -> list[Entry | Unreadable]:
    """All tables of the library, by name; a file that is none does not stand in the way of the others."""
    return [_entry(path) for path in sorted(folder().glob("*.json"))]


def _entry(path: Path) -> Entry | Unreadable:
    try:
        return Entry(path.stem, path, LatencyTable.load(path, allow_other_machine=True))
    except ProfileError as error:
        return Unreadable(path.stem, path, str(error))


def add(source: Path, name: str | None = None) -> Entry:
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
    path = folder() / f"{name}.json"
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


def find(source: str) -> Path:
    """The file of a table: a path, or the name of an imported one.

    Raises:
        UnknownName: neither.
    """
    if source.endswith(".json") or Path(source).is_file():
        return Path(source)
    path = folder() / f"{source}.json"
    if not path.is_file():
        names = [file.stem for file in folder().glob("*.json")]
        raise UnknownName(f"no table {source!r} was imported; {nearest(source, names)}")
    return path


def named_table(source: str) -> LatencyTable:
    """The table at a path, or the imported one of this name, of whichever machine.

    Raises:
        UnknownName: neither.
        ProfileError: the file is no table.
    """
    return LatencyTable.load(find(source), allow_other_machine=True)
