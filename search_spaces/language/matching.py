"""Reading the answers back out of an architecture: the inverse of closing a tree."""

from __future__ import annotations

from typing import Any

from search_spaces.language.choices import OneOf, join
from search_spaces.language.genotype import Label
from search_spaces.language.walk import children


def match(root: Any, value: Any) -> dict[str, Label] | None:
    """The answers that close `root` to `value`, by path; None where there are none."""
    return _match(root, value, "", {})


def _match(node: Any, value: Any, path: str, genes: dict[str, Label]) -> dict[str, Label] | None:
    """The answers that close `node` to `value`, added to `genes`; None where there are none."""
    if isinstance(node, OneOf):
        return _match_choice(node, value, node.own_path(path), genes)
    if type(value) is not type(node):
        return None
    # a part may be written in more than one way
    values = value.children_like(node) if hasattr(value, "children_like") else children(value)
    parts = children(node)
    if len(parts) != len(values):
        return None
    if not parts:
        return genes if value == node else None
    for (name, part), (_, inner) in zip(parts, values, strict=True):
        matched = _match(part, inner, join(path, name), genes)
        if matched is None:
            return None
        genes = matched
    return genes


def _match_choice(choice: OneOf, value: Any, path: str, genes: dict[str, Label]) -> dict[str, Label] | None:
    labels = (genes[path],) if path in genes else choice.labels
    for label in labels:
        inner = choice.inner_path(path, label)
        matched = _match(choice.labelled(label), value, inner, {**genes, path: label})
        if matched is not None:
            return matched
    return None
