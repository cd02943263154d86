"""Axes that are declared to have no order have none, and no other axis that may be searched lacks one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from foundation.errors import SpaceError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block, blocks
from search_spaces.blocks.skip import Skip
from search_spaces.network.decoder import parameter_shapes
from search_spaces.symmetries import FIXED, OPTION_LAYOUTS, WIDTH, Layout, declare, layout_of
from tests.evaluators.tiny import Fade

WIDE, LENGTH = 8, 23
EXAMPLES = [
    pytest.param(block, id=f"{name}-{i}")
    for name, kind in sorted(blocks.items())
    for i, block in enumerate(kind.examples())
]


def layout_for(block: Block) -> Layout:
    layout = layout_of(block)
    assert layout is not None, f"{type(block).__name__} has no layout"
    return layout


def filled(block: Block) -> torch.nn.Module:
    """The mixer in float64, every value moved off its start."""
    mixer = block.build(WIDE).double().eval()
    dice = torch.Generator().manual_seed(3)
    with torch.no_grad():
        mixer.reset_parameters(dice)
        for values in mixer.parameters():
            values += 0.1 * torch.empty_like(values).normal_(generator=dice)
    return mixer


def orders_of(layout: Layout, letter: str, sizes: dict[str, int], dice: torch.Generator) -> Tensor:
    """Random orders, none of which leaves everything where it is."""
    rows = sizes[layout.within[letter]] if letter in layout.within else 1
    found = []
    for _ in range(rows):
        order = torch.randperm(sizes[letter], generator=dice)
        while bool((order == torch.arange(sizes[letter])).all()):
            order = torch.randperm(sizes[letter], generator=dice)
        found.append(order)
    return torch.stack(found) if letter in layout.within else found[0]


def moved(block: Block, letter: str) -> float:
    """How far the outputs move, of their size, when the entries of a letter change places."""
    layout, mixer = layout_for(block), filled(block)
    dice = torch.Generator().manual_seed(5)
    x = torch.empty(2, LENGTH, WIDE, dtype=torch.float64).normal_(generator=dice)
    sizes = layout.sizes({name: tuple(p.shape) for name, p in mixer.named_parameters()})
    with torch.no_grad():
        before = mixer(x).y
        orders = orders_of(layout, letter, sizes, dice)
        for name, values in mixer.named_parameters():
            if letter in layout.axes[name]:
                values.copy_(layout.order(name, values, letter, orders, sizes))
        if letter == WIDTH:
            after = mixer(x[..., orders]).y
            return float((after - before[..., orders]).abs().max() / before.abs().max())
        return float((mixer(x).y - before).abs().max() / before.abs().max())


def searchable(block: Block) -> dict[str, int]:
    """The letters of a block with two entries at least."""
    return {k: n for k, n in layout_for(block).sizes(parameter_shapes(block, WIDE)).items() if n > 1}


@pytest.mark.parametrize("block", EXAMPLES)
def test_the_declared_axes_are_those_of_the_parameters(block: Block) -> None:
    layout = layout_for(block)
    for name, shape in parameter_shapes(block, WIDE).items():
        words = layout.words(name)
        assert len(words) == len(shape)
        sizes = layout.sizes(parameter_shapes(block, WIDE))
        for word, size in zip(words, shape, strict=True):
            if word != FIXED:
                assert size == torch.Size([sizes[letter] for letter in word]).numel()


@pytest.mark.parametrize("block", EXAMPLES)
def test_symmetric_axes_have_no_order_and_all_others_have_one(block: Block) -> None:
    for letter in searchable(block):
        change = moved(block, letter)
        if letter in layout_for(block).symmetric:
            assert change < 1e-9, f"{block}: {letter} moves the outputs by {change:.1e}"
        else:
            assert change > 1e-6, f"{block}: {letter} has no order, yet is not declared symmetric"


@pytest.mark.parametrize("kind", OPTION_LAYOUTS)
def test_options_of_a_layer_are_declared_whole(kind: type) -> None:
    from search_spaces.network.adaptive_depth import EarlyExit, Exit, MixtureOfDepths, Router
    from search_spaces.network.embedding_reader import EmbeddingReader

    made = {
        Router: lambda: Router(MixtureOfDepths(), WIDE),
        Exit: lambda: Exit(EarlyExit(), WIDE, 11),
        EmbeddingReader: lambda: EmbeddingReader(WIDE),
    }[kind]()
    shapes = {name: tuple(p.shape) for name, p in made.named_parameters()}
    assert OPTION_LAYOUTS[kind].sizes(shapes) == {WIDTH: WIDE}
    assert OPTION_LAYOUTS[kind].axes.keys() == shapes.keys()


def test_totals_count_every_value_once() -> None:
    layout = Layout({"up": "E F D", "wo": "D GH V", "wk": "G V D"}, "EF", {"F": "E"})
    up, wo = torch.rand(3, 4, 5), torch.rand(5, 6, 2)
    sizes = layout.sizes({"up": (3, 4, 5), "wo": (5, 6, 2), "wk": (2, 2, 5)})
    assert sizes == {"E": 3, "F": 4, "D": 5, "G": 2, "H": 3, "V": 2}
    torch.testing.assert_close(layout.totals("up", up, "F", sizes), up.sum(2))
    torch.testing.assert_close(layout.totals("up", up, "E", sizes), up.sum((1, 2)))
    torch.testing.assert_close(layout.totals("wo", wo, "G", sizes), wo.view(5, 2, 3, 2).sum((0, 2, 3)))
    assert "H" not in layout.sizes({"wo": (5, 5, 2), "wk": (2, 2, 5)})


def test_wrong_layouts_are_refused() -> None:
    with pytest.raises(SpaceError, match="no axis is called Q"):
        Layout({"up": "F D"}, "Q")
    with pytest.raises(SpaceError, match="got 'FGH'"):
        Layout({"up": "FGH D"}, "D")
    layout = Layout({"up": "F D", "down": "D F"}, "F")
    with pytest.raises(SpaceError, match="down: axis D has 4 entries here"):
        layout.sizes({"up": (3, 5), "down": (4, 3)})
    with pytest.raises(SpaceError, match="layout of up is F D"):
        layout.sizes({"up": (3, 5, 1)})


def test_a_kind_is_declared_once() -> None:
    assert layout_of(Fade()) is None
    assert layout_of(Skip()) is not None
    with pytest.raises(SpaceError, match="Attention has another layout"):
        declare("Attention", Layout({"wq": "H K D"}, "H"))
    declare("Attention", layout_for(Attention(rotary=False)))
