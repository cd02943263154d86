"""Dataclasses of a user's own in a space: found by their names, and again where they were imported.

Registered kinds (blocks, norms, parts) are known everywhere. Of others a record keeps the module and the
qualified name, as plain text. They are looked up among what this process has imported already: nothing is
ever imported because a record names it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from foundation.errors import SpaceError, UnknownName
from search_spaces.language.choices import OneOf
from search_spaces.language.serialization import kind_named
from search_spaces.language.walk import children


def own_kinds(root: Any) -> dict[str, type]:
    """The dataclasses of a tree that are not registered, by name.

    Raises:
        SpaceError: two kinds have one name, so that a record could not tell them apart.
    """
    own: dict[str, type] = {}
    for kind in _kinds(root, {}, set()):
        known = _registered(kind.__name__) or own.setdefault(kind.__name__, kind)
        if known is not kind and _place(known) != _place(kind):
            raise SpaceError(
                f"two classes are named {kind.__name__}, {_place(known)} and {_place(kind)}: rename one"
            )
    return own


def kinds_in(root: Any) -> list[type]:
    """The dataclasses of a tree, each once."""
    return list(_kinds(root, {}, set()))


def places_of(root: Any) -> dict[str, str]:
    """By name, where the classes of a tree that are not registered are: `module:Qualified.name`."""
    return {name: _place(kind) for name, kind in own_kinds(root).items()}


def imported(places: Mapping[str, str]) -> dict[str, type]:
    """Those of these classes whose modules this process has imported."""
    found = {name: _found(place) for name, place in places.items()}
    return {name: kind for name, kind in found.items() if kind is not None and kind.__name__ == name}


def _kinds(node: Any, found: dict[type, None], seen: set[int]) -> dict[type, None]:
    if id(node) in seen:
        return found
    seen.add(id(node))
    if is_dataclass(node) and not isinstance(node, (OneOf, type)):
        found[type(node)] = None
    for part in node.options if isinstance(node, OneOf) else [part for _, part in children(node)]:
        _kinds(part, found, seen)
    return found


def _registered(name: str) -> type | None:
    try:
        return kind_named(name)
    except UnknownName:
        return None


def _place(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _found(place: str) -> type | None:
    module, _, path = place.partition(":")
    thing: Any = sys.modules.get(module)
    for name in path.split("."):
        thing = getattr(thing, name, None)
    return thing if isinstance(thing, type) and is_dataclass(thing) else None
