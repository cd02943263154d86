"""Classes that this process does not know, for reading: their names and fields are in what was written.

A stand-in is a frozen dataclass with the name and the fields of a class that only a user's own code defines.
An architecture of it can be shown, compared and written again; asked for anything else, such as its cost or
its module, it says what is missing. Nothing is run or imported for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, make_dataclass
from typing import Any

from foundation.errors import SpaceError
from foundation.files import parse_json
from foundation.text import shown
from search_spaces.language.absence import StandIn
from search_spaces.language.choices import PLAIN
from search_spaces.language.limits import MOST_LEVELS
from search_spaces.language.own_kinds import kinds_in
from search_spaces.language.serialization import Kinds, is_known

MOST_KINDS = 1000
"""Classes that one record may name; making each takes a moment."""

LIBRARY = "search_spaces."
"""Where the classes are defined that every process knows."""


def stand_ins(text: str, kinds: Kinds, defaults: Mapping[str, Any]) -> dict[str, type]:
    """By name, stand-ins for the classes of a written configuration that are neither registered nor `kinds`.

    `defaults` is what `defaults_of` said of them where it was written.

    Raises:
        SpaceError: what was written is no configuration, or names too many classes.
    """
    unknown = unknown_kinds(text, kinds)
    return {name: _stand_in(name, names, defaults.get(name)) for name, names in unknown.items()}


def unknown_kinds(text: str, kinds: Kinds) -> dict[str, list[str]]:
    """The classes of a written configuration that are neither registered nor `kinds`: names and fields.

    Raises:
        SpaceError: what was written is no configuration, or names too many classes.
    """
    try:
        plain = parse_json(text, depth=2 * MOST_LEVELS)
    except ValueError as error:
        raise SpaceError(f"not a configuration: {error}") from None
    found: dict[str, dict[str, None]] = {}
    for name, names in _kinds(plain):
        if not is_known(name, kinds):
            found.setdefault(name, {}).update(dict.fromkeys(names))
    if len(found) > MOST_KINDS:
        raise SpaceError(f"a configuration names at most {MOST_KINDS:,} unknown classes, got {len(found):,}")
    return {name: list(names) for name, names in found.items()}


def defaults_of(root: Any) -> dict[str, dict[str, Any]]:
    """Plain defaults of the fields of classes that are not the library's, by class and field.

    They name the options of a space (a value that is the default is not written), so a record keeps them.
    """
    own = [kind for kind in kinds_in(root) if not kind.__module__.startswith(LIBRARY)]
    return {
        kind.__name__: {
            field.name: field.default
            for field in fields(kind)
            if field.init and field.default is not MISSING and isinstance(field.default, PLAIN)
        }
        for kind in own
    }


def _kinds(plain: Any) -> Iterator[tuple[str, list[str]]]:
    """The classes of a written configuration, at each place, with the fields that are written there."""
    if isinstance(plain, Mapping):
        name = plain.get("type")
        if isinstance(name, str):
            yield name, [field for field in plain if field != "type"]
    parts = plain.values() if isinstance(plain, Mapping) else plain if isinstance(plain, list) else ()
    for part in parts:
        yield from _kinds(part)


def _stand_in(name: str, names: list[str], defaults: Any) -> type:
    given = defaults if isinstance(defaults, Mapping) else {}
    plain = {field: given[field] for field in names if isinstance(given.get(field, ...), PLAIN)}
    specified = [(field, Any, plain[field]) if field in plain else (field, Any) for field in names]
    try:
        if any(field.startswith("_") for field in names):
            raise TypeError("a field begins with _")
        return make_dataclass(name, specified, bases=(StandIn,), frozen=True, kw_only=True)
    except TypeError as error:  # a field whose name is none
        raise SpaceError(f"{shown(name)} is no class that can be read: {error}") from None
