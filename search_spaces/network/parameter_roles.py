"""The role of every parameter of a block or a layer option, as its shape and layout tell it.

See `search_spaces.network.scaling` for what roles are and what follows from them. A block says little:
parameters with one axis work entry by entry, and all others are matrices but those that it names as
`elementwise`. Behind the axis of d_model that a matrix writes to, all axes are inputs (`wo` [D, H, V] sums
over H V); otherwise the last one is. Which axis that is says the block's layout; without one, it is the first
if that has d_model entries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import prod

from search_spaces.blocks.base import Block
from search_spaces.network.cost import parameter_shapes
from search_spaces.network.options.base import LayerOption, option_shapes
from search_spaces.network.scaling import ELEMENTWISE, Role
from search_spaces.network.shell import Shell
from search_spaces.parameter_axes import FIXED, WIDTH, Layout

EXPERTS = "E"
"""The letter of experts in a layout (`search_spaces.blocks.layouts`)."""


@lru_cache(maxsize=4096)
def block_roles(block: Block, d_model: int) -> Mapping[str, Role]:
    """The role of every parameter of a block, by its name."""
    shapes = parameter_shapes(block, d_model)
    layout = block.layout()
    return {
        name: ELEMENTWISE
        if len(shape) < 2 or block.works_by_entry(name)
        else _matrix(shape, _words(layout, name, len(shape)), d_model)
        for name, shape in shapes.items()
    }


@lru_cache(maxsize=4096)
def option_roles(option: LayerOption, shell: Shell) -> Mapping[str, Role]:
    """The role of every parameter of a layer option: vectors of its norm, or matrices."""
    layout = option.layout()
    return {
        name: ELEMENTWISE
        if name in shell.norm.held
        else _matrix(shape, _words(layout, name, len(shape)), shell.d_model)
        for name, shape in option_shapes(option, shell).items()
    }


def _words(layout: Layout | None, name: str, axes: int) -> tuple[str, ...] | None:
    """The words of a parameter's axes, where its block declares them."""
    if layout is None or name not in layout.axes:
        return None
    words = layout.words(name)
    return words if len(words) == axes else None


def _matrix(shape: Sequence[int], words: Sequence[str] | None, d_model: int) -> Role:
    if words is None:
        written, stacked = (0 if shape[0] == d_model and len(shape) > 1 else None), 0
    else:
        written = words.index(WIDTH) if WIDTH in words[:-1] else None
        stacked = 1 if len(words) > 2 and words[0] in (FIXED, EXPERTS) else 0
    inputs = 1 if written is None else len(shape) - 1 - written
    return Role("matrix", prod(shape[-inputs:]), inputs, stacked)
