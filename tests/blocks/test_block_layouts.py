"""Every axis that a block declares sortable may be sorted, and every other one has an order."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from search_spaces.block_contract.axes import change_by_reordering, declared_layout, letters_with_order
from search_spaces.block_contract.promise import Subject
from search_spaces.blocks.base import Block, blocks
from search_spaces.blocks.skip import Skip
from search_spaces.parameter_axes import Layout
from tests.blocks.random_sizes import smaller
from tests.evaluators.tiny import Fade

WIDE = 8
EXAMPLES = [
    pytest.param(block, id=f"{name}-{i}")
    for name, kind in sorted(blocks.items())
    for i, block in enumerate(kind.examples())
]


@pytest.mark.parametrize("block", EXAMPLES)
def test_axes_that_are_not_declared_sortable_have_an_order(block: Block) -> None:
    layout, subject = declared_layout(block), Subject(block, WIDE)
    for letter in letters_with_order(subject, layout):
        change = change_by_reordering(subject, letter)
        if letter not in layout.sortable:
            assert change > 1e-6, f"{block}: {letter} has no order, yet is not declared sortable"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("block", EXAMPLES)
def test_sorting_keeps_the_function_at_random_sizes(block: Block, seed: int) -> None:
    chosen = Subject(smaller(block, Random(f"{seed}/{block}"), WIDE), WIDE)
    layout = declared_layout(chosen.spec)
    for letter in letters_with_order(chosen, layout):
        if letter in layout.sortable:
            change = change_by_reordering(chosen, letter)
            assert change < 1e-9, f"{chosen}: {letter} changes the outputs by {change:.1e}"


@pytest.mark.parametrize("kind", list(blocks))
def test_a_letter_is_one_thing_in_all_variants_of_a_block(kind: str) -> None:
    examples = blocks[kind].examples()
    if kind == "Parallel":  # its layout is that of its mixers: variants with the same ones have one
        examples = tuple(replace(example, normed=True) for example in (examples[0], examples[0]))
    layouts = [declared_layout(block) for block in examples]
    assert all((layout.axes, layout.within) == (layouts[0].axes, layouts[0].within) for layout in layouts)


def test_a_block_that_declares_nothing_is_never_sorted() -> None:
    assert Fade().layout() is None
    assert Skip().layout() == Layout({}, "")
