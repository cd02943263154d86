"""Every axis that a block declares sortable may be sorted, and every other one has an order."""

from __future__ import annotations

from random import Random

import pytest
import torch
from torch import Tensor

from search_spaces.blocks.base import Block, Mixer, blocks
from search_spaces.blocks.skip import Skip
from search_spaces.network.cost import parameter_shapes
from search_spaces.parameter_axes import FIXED, WIDTH, Layout
from tests.blocks.random_sizes import smaller
from tests.evaluators.tiny import Fade

WIDE, LENGTH = 8, 23
EXAMPLES = [
    pytest.param(block, id=f"{name}-{i}")
    for name, kind in sorted(blocks.items())
    for i, block in enumerate(kind.examples())
]


def declared(block: Block) -> Layout:
    layout = block.layout()
    assert layout is not None, f"{type(block).__name__} declares no layout: override Block.layout"
    return layout


def filled(block: Block) -> Mixer:
    """The mixer in float64, every value moved away from its start."""
    mixer = block.build(WIDE).double().eval()
    dice = torch.Generator().manual_seed(3)
    with torch.no_grad():
        mixer.reset_parameters(dice)
        for values in mixer.parameters():
            values += 0.1 * torch.empty_like(values).normal_(generator=dice)
    return mixer


def random_orders(layout: Layout, letter: str, sizes: dict[str, int], dice: torch.Generator) -> Tensor:
    """Random orders, each of which moves something."""
    rows = sizes[layout.within[letter]] if letter in layout.within else 1
    orders = torch.stack([random_order(sizes[letter], dice) for _ in range(rows)])
    return orders if letter in layout.within else orders[0]


def random_order(count: int, dice: torch.Generator) -> Tensor:
    order = torch.randperm(count, generator=dice)
    while torch.equal(order, torch.arange(count)):
        order = torch.randperm(count, generator=dice)
    return order


def change_by_reordering(block: Block, letter: str) -> float:
    """The largest change of the outputs, as a share of the largest, when a letter's entries change places."""
    layout, mixer = declared(block), filled(block)
    dice = torch.Generator().manual_seed(5)
    x = torch.empty(2, LENGTH, WIDE, dtype=torch.float64).normal_(generator=dice)
    sizes = layout.sizes({name: tuple(p.shape) for name, p in mixer.named_parameters()})
    with torch.no_grad():
        before = mixer(x).y
        orders = random_orders(layout, letter, sizes, dice)
        for name, values in mixer.named_parameters():
            if letter in layout.axes[name]:
                values.copy_(layout.reorder(name, values, letter, orders, sizes))
        if letter == WIDTH:
            x, expected = x[..., orders], before[..., orders]
        else:
            expected = before
        return float((mixer(x).y - expected).abs().max() / before.abs().max())


def searchable(block: Block) -> list[str]:
    """The letters of a block that have two entries at least."""
    return [letter for letter, n in declared(block).sizes(parameter_shapes(block, WIDE)).items() if n > 1]


@pytest.mark.parametrize("block", EXAMPLES)
def test_the_declared_axes_are_those_of_the_parameters(block: Block) -> None:
    layout, shapes = declared(block), parameter_shapes(block, WIDE)
    sizes = layout.sizes(shapes)
    for name, shape in shapes.items():
        for word, size in zip(layout.words(name), shape, strict=True):
            if word != FIXED:
                assert size == torch.Size([sizes[letter] for letter in word]).numel()


@pytest.mark.parametrize("block", EXAMPLES)
def test_sortable_axes_have_no_order_and_all_others_have_one(block: Block) -> None:
    for letter in searchable(block):
        change = change_by_reordering(block, letter)
        if letter in declared(block).sortable:
            assert change < 1e-9, f"{block}: {letter} changes the outputs by {change:.1e}"
        else:
            assert change > 1e-6, f"{block}: {letter} has no order, yet is not declared sortable"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("block", EXAMPLES)
def test_sorting_keeps_the_function_at_random_sizes(block: Block, seed: int) -> None:
    chosen = smaller(block, Random(f"{seed}/{block}"), WIDE)
    for letter in searchable(chosen):
        if letter in declared(chosen).sortable:
            change = change_by_reordering(chosen, letter)
            assert change < 1e-9, f"{chosen}: {letter} changes the outputs by {change:.1e}"


@pytest.mark.parametrize("kind", list(blocks))
def test_a_letter_is_one_thing_in_all_variants_of_a_block(kind: str) -> None:
    layouts = [declared(block) for block in blocks[kind].examples()]
    assert all((layout.axes, layout.within) == (layouts[0].axes, layouts[0].within) for layout in layouts)


def test_a_block_that_declares_nothing_is_never_sorted() -> None:
    assert Fade().layout() is None
    assert Skip().layout() == Layout({}, "")
