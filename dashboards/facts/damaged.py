"""What a study's record holds besides trials, checked before anything is drawn from it: it may be damaged."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin

from nas.store.unreadable import MALFORMED, reason_of

T = TypeVar("T")


def undamaged(read: Callable[[Any], T | None], plain: Any, name: str, remarks: list[str]) -> T | None:
    """What `read` makes of a record; None, with a remark, where its names or types are wrong."""
    try:
        found = read(plain)
        parts = found if isinstance(found, tuple) else (found,)
        if any(part is not None and not conforms(part, type(part)) for part in parts):
            raise TypeError("a value has a wrong type, or is not finite")
    except MALFORMED as error:
        remarks.append(f"the record of the {name} cannot be read: {reason_of(error)}")
        return None
    return found


def conforms(value: Any, annotation: Any) -> bool:
    """Whether a value is what an annotation says, and all its numbers are finite."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        return any(conforms(value, option) for option in inner)
    if is_dataclass(annotation):
        hints = typing.get_type_hints(annotation)
        return isinstance(value, annotation) and all(  # type: ignore[arg-type]
            conforms(getattr(value, field.name), hints[field.name]) for field in fields(annotation)
        )
    if origin is tuple:
        return isinstance(value, tuple) and _entries_conform(value, inner)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(conforms(entry, inner[1]) for entry in value.values())
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value is None if annotation is type(None) else isinstance(value, annotation)


def _entries_conform(entries: tuple[Any, ...], annotations: tuple[Any, ...]) -> bool:
    if annotations[-1] is ...:
        return all(conforms(entry, annotations[0]) for entry in entries)
    return len(entries) == len(annotations) and all(map(conforms, entries, annotations))
