"""Whether a value fits the annotation of the field that it stands in: for configurations that are read."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import lru_cache
from typing import Any, Literal, Union, get_args, get_origin

from foundation.descriptions import kind_of
from foundation.errors import SpaceError
from foundation.text import shown
from search_spaces.language.absence import StandIn
from search_spaces.language.choices import OneOf
from search_spaces.language.walk import children


def check_fields(kind: type, given: Mapping[str, Any]) -> None:
    """Raise `SpaceError` where a value, or an option of an open one, is not of the type of its field.

    Annotations that are more than classes, unions, tuples and literals allow everything.
    """
    hints = _hints(kind)
    for name, value in given.items():
        annotation = hints.get(name, Any)
        if not _fits(value, annotation):
            raise SpaceError(f"{kind.__name__}: {name} must be {_words(annotation)}, got {_shown(value)}")


def check_types(node: Any) -> None:
    """Raise `SpaceError` where a value anywhere in an open or closed tree is not of its field's type."""
    _check_types(node, set())


def _check_types(node: Any, seen: set[int]) -> None:
    if id(node) in seen:
        return
    seen.add(id(node))
    parts = dict(children(node))
    if is_dataclass(node) and not isinstance(node, OneOf):
        check_fields(type(node), {str(name): part for name, part in parts.items()})
    for part in node.options if isinstance(node, OneOf) else parts.values():
        _check_types(part, seen)


@lru_cache(maxsize=1024)
def _hints(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except NameError:  # a class of a user whose annotations name what is not at the top of its module
        return {}


def _fits(value: Any, annotation: Any) -> bool:
    if annotation is Any or isinstance(value, StandIn):
        return True
    if isinstance(value, OneOf):
        return all(_fits(option, annotation) for option in value.options)
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in inside)
    if origin is Literal:
        return any(type(value) is type(word) and value == word for word in inside)
    if origin is tuple:
        return isinstance(value, tuple) and _entries_fit(value, inside)
    if annotation in (int, float):
        return isinstance(value, (int, annotation)) and not isinstance(value, bool)
    kind = type(None) if annotation is None else origin or annotation
    return isinstance(value, kind) if isinstance(kind, type) else True


def _entries_fit(value: tuple[Any, ...], inside: tuple[Any, ...]) -> bool:
    if len(inside) == 2 and inside[1] is Ellipsis:
        different = {id(entry): entry for entry in value}.values()  # copies of a repeated part are one object
        return all(_fits(entry, inside[0]) for entry in different)
    return len(value) == len(inside) and all(map(_fits, value, inside))


def _words(annotation: Any) -> str:
    optional = type(None) in get_args(annotation)
    return f"{kind_of(annotation)}{' or null' if optional else ''}"


def _shown(value: Any) -> str:
    return type(value).__name__ if isinstance(value, (tuple, OneOf)) else shown(value)
