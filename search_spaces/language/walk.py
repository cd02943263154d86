"""Walking an open tree: the options of an open value, every closed value of a part, and when each occurs.

    alternatives(node, path)     the options of an open value, each still open inside
    closings(node, path)         every closed value of a part
    open_values(node, path)      every open value, outermost first

A condition names genes and, for each, the options that it allows; it holds when every one of these genes is
answered by an allowed option. A shared choice is one gene however often it is used, and appears once in a
condition: its uses agree in every closed value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from itertools import product
from typing import Any, NamedTuple, TypeAlias

from search_spaces.language.choices import OneOf, field_names, join

Condition: TypeAlias = Mapping[str, frozenset[int]]
"""Allowed options (their indices) by path; empty where everything is allowed."""

ALWAYS: Condition = {}


class Alternative(NamedTuple):
    """An option of an open value: open inside, the path of its inner questions, and when it is chosen."""

    node: Any
    path: str
    condition: Condition


class Closing(NamedTuple):
    """A closed value of a part, and when the part has it."""

    value: Any
    condition: Condition


def intersection(*conditions: Condition) -> Condition | None:
    """What holds when all of them do; None where they exclude each other."""
    common: Condition = ALWAYS
    for condition in conditions:
        if not common or not condition:
            common = common or condition
            continue
        joined = dict(common)
        for path, allowed in condition.items():
            joined[path] = joined.get(path, allowed) & allowed
            if not joined[path]:
                return None
        common = joined
    return common


def alternatives(node: Any, path: str = "") -> Iterator[Alternative]:
    """The options of an open value that stands at `path`, or the value itself."""
    if not isinstance(node, OneOf):
        yield Alternative(node, path, ALWAYS)
        return
    own = node.own_path(path)
    for index, label in enumerate(node.labels):
        condition = {own: frozenset((index,))}
        yield Alternative(node.labelled(label), node.inner_path(own, label), condition)


def closings(node: Any, path: str = "") -> Iterator[Closing]:
    """Every closed value of a part that stands at `path`."""
    if isinstance(node, OneOf):
        for option, inner, chosen in alternatives(node, path):
            for value, condition in closings(option, inner):
                both = intersection(chosen, condition)
                if both is not None:
                    yield Closing(value, both)
        return
    named = children(node)
    if not named:
        yield Closing(node, ALWAYS)
        return
    for values, condition in _combinations([closings(part, join(path, name)) for name, part in named]):
        yield Closing(with_children(node, values), condition)


def _combinations(parts: Sequence[Iterator[Closing]]) -> Iterator[tuple[list[Any], Condition]]:
    for combination in product(*parts):
        condition = intersection(*(closing.condition for closing in combination))
        if condition is not None:
            yield [closing.value for closing in combination], condition


def closed_values(node: Any) -> list[Any]:
    """Every closed value of a part, whatever leads to it."""
    return [closing.value for closing in closings(node)]


def open_values(node: Any, path: str = "") -> Iterator[tuple[str, OneOf]]:
    """Every open value of a tree with its path, outermost first, in all branches; shared ones at each use."""
    if isinstance(node, OneOf):
        yield node.own_path(path), node
        for option, inner, _ in alternatives(node, path):
            yield from open_values(option, inner)
        return
    for name, part in children(node):
        yield from open_values(part, join(path, name))


def children(node: Any) -> list[tuple[str | int, Any]]:
    """The parts of a node that is no open value, by field or index; none of a plain value."""
    if isinstance(node, tuple):
        return list(enumerate(node))
    if is_dataclass(node) and not isinstance(node, type):
        return [(name, getattr(node, name)) for name in field_names(type(node))]
    return []


def with_children(node: Any, values: Sequence[Any]) -> Any:
    """A node like this one with other parts, in the order of `children`."""
    if isinstance(node, tuple):
        return tuple(values)
    names = [str(name) for name, _ in children(node)]
    return type(node)(**dict(zip(names, values, strict=True)))
