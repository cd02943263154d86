"""Spaces and architectures as JSON, by registered names; never by pickle.

A dataclass becomes `{"type": "Attention", "num_heads": 4, ...}`, an open value `{"one_of": [...]}`, a stack
`{"repeat": part, "depths": [...]}`. Reading refuses unknown types and unknown fields, and suggests the
nearest name. All fields are written; one that is missing has its default.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from foundation.errors import SpaceError, UnknownName
from foundation.files import parse_json
from foundation.registry import Registry, nearest
from foundation.text import shown
from search_spaces.blocks.base import blocks
from search_spaces.language.choices import MOST_COPIES, OneOf, field_names, repeat
from search_spaces.language.field_types import check_fields
from search_spaces.language.limits import MOST_LEVELS, check_count, check_levels, check_number
from search_spaces.network.norms.base import norms

Kinds: TypeAlias = Mapping[str, type]
"""Dataclasses by name that are read besides the registered ones."""

NO_KINDS: Kinds = MappingProxyType({})

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


def from_plain(plain: Any, kinds: Kinds = NO_KINDS) -> Any:
    """The configuration that `to_plain` wrote; `kinds` are read besides the registered dataclasses.

    What somebody else wrote is read as safely: its size is known before anything of it is made.

    Raises:
        UnknownName: a type or a field that does not exist here, with the nearest name that does.
        SpaceError: something that no configuration contains, or too much of it (see `language.limits`).
    """
    check_count(_count(plain, MOST_LEVELS))
    return _from_plain(plain, kinds)


def _count(plain: Any, left: int) -> int:
    """The values of what `plain` describes, repeated parts counted; `left` levels may follow."""
    check_levels(left)
    if isinstance(plain, Mapping):
        inside = {name: _count(part, left - 1) for name, part in plain.items() if name != "depths"}
        copies = _copies(plain) if "repeat" in plain else 1
        return 1 + sum(inside.values()) + (copies - 1) * inside.get("repeat", 0)
    if not isinstance(plain, list):
        return 1
    if len(plain) > MOST_COPIES:
        raise SpaceError(f"a sequence has at most {MOST_COPIES:,} entries, got {len(plain):,}")
    return 1 + sum(_count(part, left - 1) for part in plain)


def _copies(plain: Mapping[str, Any]) -> int:
    """How many copies of its part a `repeat` holds, over all its depths."""
    depths = plain.get("depths")
    if not isinstance(depths, list) or not all(type(depth) is int for depth in depths):
        raise SpaceError(f"'repeat' needs 'depths', a list of whole numbers, got {shown(depths)}")
    if max(depths, default=0) > MOST_COPIES:
        raise SpaceError(f"repeat: depths must be at most {MOST_COPIES:,}, got {max(depths):.6g}")
    return sum(depths)


def _from_plain(plain: Any, kinds: Kinds) -> Any:
    if isinstance(plain, list):
        return tuple(_from_plain(part, kinds) for part in plain)
    if not isinstance(plain, Mapping):
        return _value(plain)
    if "type" in plain:
        return _dataclass_from_plain(plain, kinds)
    name = plain.get("name")
    if not isinstance(name, str | None):
        raise SpaceError(f"the name of a shared choice must be text, got {shown(name)}")
    match sorted(plain.keys() - {"name"}):
        case ["one_of"] if isinstance(plain["one_of"], list):
            return OneOf(tuple(_from_plain(part, kinds) for part in plain["one_of"]), name)
        case ["depths", "repeat"]:
            part, depths = _from_plain(plain["repeat"], kinds), plain["depths"]
            if len(depths) == 1 and depths[0] >= 0:
                return OneOf(((part,) * depths[0],), name)
            return repeat(part, depths, name=name)
    keys = shown(sorted(map(str, plain)))
    raise SpaceError(f"expected a 'type', 'one_of' or 'repeat', got the keys {keys}")


def _value(plain: Any) -> Any:
    if isinstance(plain, (int, float)):
        check_number(plain)
    elif not isinstance(plain, str | None):
        raise SpaceError(f"a {type(plain).__name__} cannot be part of a configuration")
    return plain


def _dataclass_from_plain(plain: Mapping[str, Any], kinds: Kinds) -> Any:
    kind = kind_named(plain["type"], kinds)
    names = field_names(kind)
    for name in plain:
        if name != "type" and name not in names:
            raise UnknownName(f"{plain['type']} has no field {shown(name)}; {nearest(name[:80], names)}")
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in needed if name not in plain]
    if missing:
        raise SpaceError(f"{plain['type']} needs {', '.join(missing)}")
    given = {name: _from_plain(value, kinds) for name, value in plain.items() if name != "type"}
    check_fields(kind, given)
    return kind(**given)


def kind_named(name: Any, kinds: Kinds = NO_KINDS) -> type:
    """The registered dataclass of this name: a block, a norm, or another part.

    Raises:
        UnknownName: there is none; the nearest name is suggested.
        SpaceError: this is no name.
    """
    if not isinstance(name, str):
        raise SpaceError(f"a type is the name of a block or a part, got {shown(name)}")
    if name in parts:
        return parts[name]
    for registry in (blocks, norms):
        if name in registry:
            kind: type = registry[name]
            return kind
    if name in kinds:
        return kinds[name]
    raise UnknownName(f"unknown block or part {shown(name)}; {nearest(name[:80], [*parts, *blocks, *norms])}")


def is_known(name: str, kinds: Kinds = NO_KINDS) -> bool:
    """Whether a dataclass of this name can be read."""
    return any(name in known for known in (parts, blocks, norms, kinds))


def to_json(node: Any) -> str:
    """Compact JSON of a configuration."""
    return json.dumps(to_plain(node), separators=(",", ":"))


def from_json(text: str, kinds: Kinds = NO_KINDS) -> Any:
    """The configuration written by `to_json`; see `from_plain`.

    Raises:
        SpaceError: this is no JSON, or no configuration; see `from_plain`.
    """
    try:
        return from_plain(parse_json(text, depth=2 * MOST_LEVELS), kinds)
    except ValueError as error:
        raise SpaceError(f"not a configuration: {error}") from None
