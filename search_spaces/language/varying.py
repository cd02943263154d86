"""Which fields of a space's parts differ between its architectures: what a short description should tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from search_spaces.language.choices import OneOf, field_names
from search_spaces.language.printing import brief
from search_spaces.language.walk import children

Varying: TypeAlias = Mapping[str, frozenset[str]]
"""Fields that are searched, by the name of their class."""

NOTHING: Varying = MappingProxyType({})


def varying_fields(root: Any) -> Varying:
    """By class, its plain fields that are open, or that differ between parts in one open value."""
    found: dict[str, set[str]] = {}
    for part in _parts(root, set()):
        if isinstance(part, OneOf):
            _add_differing(part, found)
        elif is_dataclass(part):
            names = (name for name in field_names(type(part)) if isinstance(getattr(part, name), OneOf))
            found.setdefault(type(part).__name__, set()).update(names)
    return {kind: frozenset(names) for kind, names in found.items() if names}


def told(part: Any, varying: Varying) -> str:
    """A closed part by its class and its plain fields that vary: `Attention(num_kv_heads=2)`.

    A field that holds nothing, such as the window of full attention, is not named.
    """
    kind = type(part).__name__
    names = [name for name in field_names(type(part)) if name in varying.get(kind, ())]
    plain = [n for n in names if getattr(part, n) is not None and not is_dataclass(getattr(part, n))]
    values = ", ".join(f"{name}={brief(getattr(part, name))}" for name in plain)
    return f"{kind}({values})" if values else kind


def _add_differing(choice: OneOf, found: dict[str, set[str]]) -> None:
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
