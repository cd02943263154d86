"""How large a network may be: what a configuration asks for is known from formulas, before anything is built.

check_size(root)            # a Decoder, closed or open
closed_at_its_largest(root).sizes()
"""

from __future__ import annotations

from functools import reduce
from math import prod
from typing import Any

from foundation.errors import SpaceError
from search_spaces.blocks.base import Block
from search_spaces.language.choices import OneOf
from search_spaces.language.field_types import check_types
from search_spaces.language.limits import check_values
from search_spaces.language.walk import children, with_children
from search_spaces.network.decoder import Decoder
from search_spaces.scenario import Scenario

MOST_PARAMETERS = 2**38
"""Parameters of a network: a terabyte in float32."""

MOST_STATE = 2**34
"""Values of the decode state of one sequence, after its first token."""


def check_size(root: Any) -> None:
    """Raise `SpaceError` where a configuration, open or closed, is larger than any network that can be built.

    Its values are counted (`language.limits`). Of a `Decoder` the types of its values are checked, too, and
    its parameters and decode state computed, with every open value at its largest; constraints are not asked.
    """
    check_values(root)
    for option in root.options if isinstance(root, OneOf) else (root,):
        if isinstance(option, Decoder):
            check_types(option)
            check_closed_size(closed_at_its_largest(option))


def check_closed_size(decoder: Decoder) -> None:
    """Raise `SpaceError` for more parameters or decode state than any network has."""
    try:
        params, state = decoder.sizes()
    except IMPOSSIBLE:
        return
    if params > MOST_PARAMETERS:
        raise SpaceError(f"too large: {params:.3g} parameters, and at most {MOST_PARAMETERS:.3g}")
    if state > MOST_STATE:
        raise SpaceError(f"too large: {state:.3g} values of decode state, and at most {MOST_STATE:.3g}")


IMPOSSIBLE = (ArithmeticError, TypeError, ValueError)
"""What formulas raise for values that no check lets pass together: such a network is never built."""


def closed_at_its_largest(decoder: Decoder) -> Decoder:
    """A closed decoder with every open value at its largest, block by block; it may not be a legal one."""
    widest: int = _largest(decoder.d_model, 1, {})
    closed: Decoder = _largest(decoder, widest, {})
    return closed


def _largest(node: Any, d_model: int, found: dict[int, Any]) -> Any:
    """A part with the largest option of every open value; copies of a part stay one object."""
    key = id(node)
    if key not in found:
        if isinstance(node, OneOf):
            options = [_largest(option, d_model, found) for option in node.options]
            found[key] = reduce(lambda a, b: b if _size(b, d_model) > _size(a, d_model) else a, options)
        else:
            parts = children(node)
            closed = [_largest(part, d_model, found) for _, part in parts]
            found[key] = with_children(node, closed) if parts else node
    return found[key]


def _size(option: Any, d_model: int) -> tuple[int, float]:
    """By what options of one open value are compared; all kinds of options have an order."""
    if isinstance(option, Block):
        return 2, _block_size(option, d_model)
    if isinstance(option, tuple):
        return 2, len(option)
    if isinstance(option, (int, float)):
        return 1, option
    return (0, 0) if option is None else (1, 0)


def _block_size(block: Block, d_model: int) -> float:
    """Parameters and values of decode state."""
    try:
        states = sum(prod(shape.allocated(1, 1)) for shape in block.state(d_model).values())
        return float(block.cost(d_model, Scenario()).params + states)
    except IMPOSSIBLE:
        return 0.0
