"""Axes: the layout is that of the parameters, and sorting what it calls sortable changes nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from foundation.errors import SpaceError
from search_spaces.block_contract.promise import BrokenPromise, Subject, promise
from search_spaces.blocks.base import Block
from search_spaces.parameter_axes import FIXED, WIDTH, Layout, Shapes

LENGTH = 23
SAME = 1e-9
"""The largest change of outputs, as a share of the largest, that is rounding."""


@promise(quick=True)
def the_layout_is_that_of_the_parameters(subject: Subject) -> None:
    """Every axis has a letter, and axes of one letter have one size."""
    layout = subject.spec.layout()
    if layout is None:
        return
    shapes: Shapes = {
        name: tuple(parameter.shape)
        for name, parameter in subject.spec.build(subject.d_model).named_parameters()
    }
    try:
        sizes = layout.sizes(shapes)
    except SpaceError as error:
        raise BrokenPromise(f"layout: {error}") from None
    for name, shape in shapes.items():
        for word, size in zip(layout.words(name), shape, strict=True):
            if word != FIXED and size != torch.Size([sizes[letter] for letter in word]).numel():
                raise BrokenPromise(
                    f"layout: the axis {word} of {name} has {size} entries, others of it have not"
                )


@promise(quick=True)
def sortable_axes_have_no_order(subject: Subject) -> None:
    """A supernet sorts them by importance, which must not change what the block computes."""
    layout = subject.spec.layout()
    if layout is None:
        return
    for letter in letters_with_order(subject, layout):
        if letter in layout.sortable and (change := change_by_reordering(subject, letter)) > SAME:
            raise BrokenPromise(
                f"layout: {letter} is declared sortable, but changes outputs by {100 * change:.1g} %:"
                " leave it out of the second argument"
            )


def letters_with_order(subject: Subject, layout: Layout) -> list[str]:
    """The letters of a layout that have two entries at least, so that their order could matter."""
    module = subject.spec.build(subject.d_model)
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    return [letter for letter, count in layout.sizes(shapes).items() if count > 1]


def change_by_reordering(subject: Subject, letter: str) -> float:
    """The largest change of the outputs, as a share of the largest, when a letter's entries change places."""
    layout, mixer = declared_layout(subject.spec), subject.built().eval()
    dice = torch.Generator().manual_seed(5)
    x = subject.inputs(2, LENGTH)
    sizes = layout.sizes({name: tuple(p.shape) for name, p in mixer.named_parameters()})
    with torch.no_grad():
        before = mixer(x).y
        orders = _random_orders(layout, letter, sizes, dice)
        for name, values in mixer.named_parameters():
            if letter in layout.axes[name]:
                values.copy_(layout.reorder(name, values, letter, orders, sizes))
        if letter == WIDTH:
            x, before = x[..., orders], before[..., orders]
        return float((mixer(x).y - before).abs().max() / before.abs().max())


def declared_layout(spec: Block) -> Layout:
    """The layout of a block.

    Raises:
        BrokenPromise: it declares none.
    """
    layout = spec.layout()
    if layout is None:
        raise BrokenPromise(f"{type(spec).__name__} declares no layout: override Block.layout")
    return layout


def _random_orders(layout: Layout, letter: str, sizes: dict[str, int], dice: torch.Generator) -> Tensor:
    """Random orders, each of which moves something."""
    rows = sizes[layout.within[letter]] if letter in layout.within else 1
    orders = torch.stack([_random_order(sizes[letter], dice) for _ in range(rows)])
    return orders if letter in layout.within else orders[0]


def _random_order(count: int, dice: torch.Generator) -> Tensor:
    order = torch.randperm(count, generator=dice)
    while torch.equal(order, torch.arange(count)):
        order = torch.randperm(count, generator=dice)
    return order
