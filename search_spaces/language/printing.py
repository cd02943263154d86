"""Configurations as readable text: a space, or the layer strip of one architecture."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from itertools import groupby
from typing import Any

from search_spaces.language.choices import OneOf, field_names


def show(node: Any, indent: int = 0) -> str:
    """A configuration as an indented tree; runs of equal parts are written once."""
    return "\n".join(_lines(node, "", indent))


def brief(node: Any) -> str:
    """A closed part in one line, fields at their defaults left out: `Attention(num_kv_heads=2)`."""
    if isinstance(node, tuple):
        return f"({', '.join(map(brief, node))})"
    if not is_dataclass(node) or isinstance(node, type):
        return str(node)
    if isinstance(node, OneOf):
        return " | ".join(map(brief, node.options))
    shown = [f"{name}={brief(getattr(node, name))}" for name in field_names(type(node)) if is_set(node, name)]
    return f"{type(node).__name__}({', '.join(shown)})" if shown else type(node).__name__


def is_set(node: Any, name: str) -> bool:
    """Whether a field's value differs from its default."""
    field = next(field for field in fields(node) if field.name == name)
    default = field.default if field.default is not MISSING else None
    if field.default is MISSING and field.default_factory is not MISSING:
        default = field.default_factory()
    return (field.default is MISSING and field.default_factory is MISSING) or getattr(node, name) != default


def _lines(node: Any, name: str, indent: int) -> list[str]:
    pad, head = "  " * indent, f"{name}: " if name else ""
    if isinstance(node, OneOf):
        return _choice_lines(node, pad, head, indent)
    if isinstance(node, tuple):
        return _stack_lines(node, pad, head, indent)
    if is_dataclass(node) and _nested(node):
        lines = [f"{pad}{head}{type(node).__name__}"]
        for field in field_names(type(node)):
            lines += _lines(getattr(node, field), field, indent + 1)
        return lines
    return [f"{pad}{head}{brief(node)}"]


def _choice_lines(node: OneOf, pad: str, head: str, indent: int) -> list[str]:
    shared = f" (shared as {node.name!r})" if node.name else ""
    if node.is_repeat:
        longest = max(node.options, key=len)
        depths = ", ".join(map(str, node.labels))
        lines = [f"{pad}{head}a stack of {depths} times{shared}"]
        return lines + (_lines(longest[0], "", indent + 1) if longest else [])
    if not any(is_dataclass(option) or isinstance(option, tuple) for option in node.options):
        return [f"{pad}{head}one of {', '.join(map(str, node.options))}{shared}"]
    lines = [f"{pad}{head}one of{shared}"]
    for option in node.options:
        lines += _lines(option, "", indent + 1)
    return lines


def _stack_lines(node: tuple[Any, ...], pad: str, head: str, indent: int) -> list[str]:
    lines = [f"{pad}{head}{len(node)} in a row"]
    index = 0
    for part, run in groupby(node):
        count = len(list(run))
        place = f"{index}" if count == 1 else f"{index}-{index + count - 1}"
        lines += _lines(part, place, indent + 1)
        index += count
    return lines


def _nested(node: Any) -> bool:
    """Whether a part holds parts or open values of its own."""
    values = [getattr(node, name) for name in field_names(type(node))]
    return any(isinstance(value, (OneOf, tuple)) or is_dataclass(value) for value in values)
