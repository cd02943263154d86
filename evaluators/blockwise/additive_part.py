"""The part of a space in which effects of single sublayers add up: without the options that forbid it.

Layers that share weights are one and the same twice, a router and an exit decide which tokens a sublayer
sees: replacing one of their sublayers does not do by itself what it does in the whole.
"""

from __future__ import annotations

from typing import Any

from foundation.errors import SpaceError
from search_spaces.language.choices import OneOf, join
from search_spaces.language.space import Space
from search_spaces.language.walk import alternatives, children, closed_values, with_children
from search_spaces.network.decoder import OPTIONS, Decoder, Layer

NOT_ADDITIVE = {name: kind for name, kind in OPTIONS.items() if kind.not_additive}


def does_not_add_up(spec: Decoder) -> str | None:
    """Why the effects of the sublayers of a network do not add up; None where they may."""
    if spec.soft_prompt is not None:
        return "its soft prompt was learned for all layers together"
    for i, layer in enumerate(spec.layers):
        if layer.not_additive:
            return f"layers.{i} {layer.not_additive}"
    return None


def additive_part(space: Space) -> Space:
    """The space of those of its networks for which `does_not_add_up` is None; the same where that is all.

    Raises:
        SpaceError: there are none; the message names a layer and its option.
    """
    root = _additive(space.root, "")
    if root == space.root:
        return space
    return Space(root, constraints=space.constraints, name=space.name)


def _additive(node: Any, path: str) -> Any:
    if isinstance(node, OneOf):
        return OneOf(tuple(_possible(node, path)), node.name)
    named = dict(children(node))
    if isinstance(node, Layer):
        named |= {name: _absent(named[name], join(path, name)) for name in NOT_ADDITIVE}
    parts = [_additive(part, join(path, name)) for name, part in named.items()]
    return with_children(node, parts) if named else node


def _absent(node: Any, path: str) -> Any:
    """The value of an option's field without the option."""
    kind = NOT_ADDITIVE[path.rpartition(".")[2]]
    for value in closed_values(node):
        if kind.of(value) is None:
            return value
    raise SpaceError(f"{path}: a layer that {kind.not_additive} cannot be scored by its sublayers")


def _possible(choice: OneOf, path: str) -> list[Any]:
    """The additive parts of the options that have one."""
    possible, reasons = [], []
    for option, inner, _ in alternatives(choice, path):
        try:
            possible.append(_additive(option, inner))
        except SpaceError as reason:
            reasons.append(reason)
    if not possible:
        raise reasons[0]
    return possible
