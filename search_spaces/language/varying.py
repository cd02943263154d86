"""Which fields of a space's parts differ between its architectures: what a short description should tell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from search_spaces.language.choices import OneOf, field_names
from search_spaces.language.printing import brief
from search_spaces.language.walk import children, open_values

Varying: TypeAlias = Mapping[str, frozenset[str]]
"""Fields that are searched, by the name of their class."""

NOTHING: Varying = MappingProxyType({})


def varying_fields(root: Any) -> Varying:
    """By class, its fields that hold something open, or that differ between parts in one open value."""
    found: dict[str, set[str]] = {}
    for part in _parts(root, set()):
        if isinstance(part, OneOf):
            _add_differing(part, found)
        elif is_dataclass(part):
            names = (name for name in field_names(type(part)) if _is_open(getattr(part, name)))
            found.setdefault(type(part).__name__, set()).update(names)
    return {kind: frozenset(names) for kind, names in found.items() if names}


def told(part: Any, varying: Varying) -> str:
    """A closed part by its class and its fields that vary: `Attention(num_kv_heads=2)`.

    A field that holds nothing, such as the window of full attention, is not named.
    """
    kind = type(part).__name__
    known = {n: getattr(part, n) for n in field_names(type(part)) if n in varying.get(kind, ())}
    shown = [
        f"{name}={told(value, varying) if _is_closed_part(value) else brief(value)}"
        for name, value in known.items()
        if value is not None
    ]
    return f"{kind}({', '.join(shown)})" if shown else kind


def _is_open(value: Any) -> bool:
    return next(open_values(value), None) is not None


def _is_closed_part(value: Any) -> bool:
    return is_dataclass(value) and not isinstance(value, OneOf)


def differing_fields(parts: Iterable[Any]) -> Varying:
    """By class, the fields in which these parts, or parts within them, differ."""
    found: dict[str, set[str]] = {}
    _add_differing(tuple(parts), found)
    return {kind: frozenset(names) for kind, names in found.items() if names}


def joined(*varying: Varying) -> Varying:
    """The fields of all of these."""
    kinds = dict.fromkeys(kind for each in varying for kind in each)
    return {kind: frozenset().union(*(each.get(kind, ()) for each in varying)) for kind in kinds}


def _add_differing(choice: Any, found: dict[str, set[str]]) -> None:
    first: dict[str, Any] = {}
    for part in _parts(choice, set()):
        if not is_dataclass(part) or isinstance(part, OneOf):
            continue
        like = first.setdefault(type(part).__name__, part)
        names = (name for name in field_names(type(part)) if getattr(part, name) != getattr(like, name))
        found.setdefault(type(part).__name__, set()).update(names)


def _parts(node: Any, seen: set[int]) -> Iterator[Any]:
    """A tree's parts, each once, however often it stands there."""
    if id(node) in seen or (not isinstance(node, tuple) and not is_dataclass(node)):
        return
    seen.add(id(node))
    yield node
    for part in node.options if isinstance(node, OneOf) else [part for _, part in children(node)]:
        yield from _parts(part, seen)
