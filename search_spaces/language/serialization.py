"""Spaces and architectures as JSON, by registered names; never by pickle.

A dataclass becomes `{"type": "Attention", "num_heads": 4, ...}`, an open value `{"one_of": [...]}`, a stack
`{"repeat": part, "depths": [...]}`. Reading refuses unknown types and unknown fields, and suggests the
nearest name. All fields are written; one that is missing has its default.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from foundation.errors import SpaceError, UnknownName
from foundation.registry import Registry, nearest
from search_spaces.blocks.base import blocks
from search_spaces.language.choices import OneOf, field_names, repeat
from search_spaces.network.norms.base import norms

parts: Registry[type] = Registry("part")
"""What may stand in a configuration beside blocks and norms: `Decoder`, `Layer`, `Bits`, yours."""


def to_plain(node: Any) -> Any:
    """A configuration, open or closed, as values that JSON can hold."""
    if isinstance(node, OneOf):
        plain = _choice_to_plain(node)
        return {**plain, "name": node.name} if node.name else plain
    if isinstance(node, tuple):
        return [to_plain(part) for part in node]
    if is_dataclass(node):
        values = {name: to_plain(getattr(node, name)) for name in field_names(type(node))}
        return {"type": type(node).__name__, **values}
    return node


def _choice_to_plain(choice: OneOf) -> dict[str, Any]:
    longest = max(choice.options, key=len) if choice.is_repeat else ()
    if longest and all(part == longest[0] for part in longest):
        return {"repeat": to_plain(longest[0]), "depths": list(choice.labels)}
    return {"one_of": [to_plain(option) for option in choice.options]}


def from_plain(plain: Any) -> Any:
    """The configuration that `to_plain` wrote.

    Raises:
        UnknownName: a type or a field that does not exist here, with the nearest name that does.
        SpaceError: something that no configuration contains.
    """
    if isinstance(plain, list):
        return tuple(map(from_plain, plain))
    if not isinstance(plain, Mapping):
        return plain
    if "one_of" in plain:
        return OneOf(tuple(map(from_plain, plain["one_of"])), plain.get("name"))
    if "repeat" in plain:
        part = from_plain(plain["repeat"])
        if len(plain["depths"]) == 1:
            return OneOf(((part,) * plain["depths"][0],), plain.get("name"))
        return repeat(part, plain["depths"], name=plain.get("name"))
    if "type" not in plain:
        raise SpaceError(f"expected a 'type', 'one_of' or 'repeat', got the keys {sorted(plain)}")
    return _dataclass_from_plain(plain)


def _dataclass_from_plain(plain: Mapping[str, Any]) -> Any:
    kind = kind_named(plain["type"])
    names = field_names(kind)
    for name in plain:
        if name != "type" and name not in names:
            raise UnknownName(f"{plain['type']} has no field {name!r}; {nearest(name, names)}")
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in needed if name not in plain]
    if missing:
        raise SpaceError(f"{plain['type']} needs {', '.join(missing)}")
    given = {name: from_plain(value) for name, value in plain.items() if name != "type"}
    return kind(**given)


def kind_named(name: str) -> type:
    """The registered dataclass of this name: a block, a norm, or another part."""
    if name in parts:
        return parts[name]
    for registry in (blocks, norms):
        if name in registry:
            kind: type = registry[name]
            return kind
    raise UnknownName(f"unknown block or part {name!r}; {nearest(name, [*parts, *blocks, *norms])}")


def to_json(node: Any) -> str:
    """Compact JSON of a configuration."""
    return json.dumps(to_plain(node), separators=(",", ":"))


def from_json(text: str) -> Any:
    """The configuration written by `to_json`."""
    return from_plain(json.loads(text))
