"""An architecture as the Python that makes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from itertools import groupby
from typing import Any

from search_spaces.language.walk import open_values

WIDTH = 88
"""Characters of a line, where something can be broken."""


def python_text(spec: Any, name: str = "spec") -> str:
    """A program of imports and one assignment; fields at their defaults are left out."""
    kinds = sorted({type(node) for node in _nodes(spec)}, key=lambda kind: (kind.__module__, kind.__name__))
    imports = [f"from {kind.__module__} import {kind.__name__}" for kind in kinds]
    return "\n".join([*imports, "", f"{name} = {_text(spec, 0)}", ""])


def _nodes(node: Any) -> Iterator[Any]:
    if isinstance(node, tuple):
        for part in node:
            yield from _nodes(part)
    elif is_dataclass(node):
        yield node
        for _, value in _set_fields(node):
            yield from _nodes(value)


def _set_fields(node: Any) -> Iterator[tuple[str, Any]]:
    """The fields that differ from their defaults, or have none; a default that is open is always told."""
    for field in fields(node):
        value = getattr(node, field.name)
        is_open = next(open_values(field.default), None) is not None
        if field.init and (is_open or value != field.default):
            yield field.name, value


def _text(node: Any, indent: int) -> str:
    flat = _flat(node)
    if len(flat) + indent <= WIDTH or not (is_dataclass(node) or isinstance(node, tuple)):
        return flat
    inner, pad = indent + 4, " " * (indent + 4)
    if isinstance(node, tuple):
        lines = [
            _text(part, inner) if times == 1 else f"*[{_text(part, inner)}] * {times}"
            for part, times in _runs(node)
        ]
        return "(" + "".join(f"\n{pad}{line}," for line in lines) + f"\n{' ' * indent})"
    lines = [f"{name}={_text(value, inner)}" for name, value in _set_fields(node)]
    return f"{type(node).__name__}(" + "".join(f"\n{pad}{line}," for line in lines) + f"\n{' ' * indent})"


def _flat(node: Any) -> str:
    if isinstance(node, tuple):
        parts = [_flat(part) if times == 1 else f"*[{_flat(part)}] * {times}" for part, times in _runs(node)]
        return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
    if is_dataclass(node):
        inner = ", ".join(f"{name}={_flat(value)}" for name, value in _set_fields(node))
        return f"{type(node).__name__}({inner})"
    return repr(node)


def _runs(parts: tuple[Any, ...]) -> list[tuple[Any, int]]:
    return [(part, len(list(run))) for part, run in groupby(parts)]
