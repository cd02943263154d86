"""Every block against its reference: at full size, and on leading slices of larger weights.

A reference is built at the size of the slice and given the sliced weights, so this shows the mathematics and
the slicing at once, for outputs and gradients (see `search_spaces.parity`).
"""

from __future__ import annotations

import os
from dataclasses import fields, replace
from random import Random
from typing import Any

import pytest

from search_spaces.blocks.base import Block, blocks
from search_spaces.blocks.latent_attention import LatentAttention
from search_spaces.choices import field_names
from search_spaces.errors import IllegalArchitecture
from search_spaces.parity import TOLERANCE, deviation
from search_spaces.references import references

os.environ["HF_HUB_OFFLINE"] = "1"

WIDTH = 24
SIZES = {
    "num_heads",
    "head_dim",
    "state_dim",
    "num_experts",
    "expansion",
    "channels",
    "filter_dim",
    "num_features",
}
"""Fields that may shrink by themselves: axes of parameters."""
EXAMPLES = [spec for kind in blocks.values() for spec in kind.examples()]


def needs_installed(spec: Block) -> None:
    known = references[type(spec).__name__]
    if not known.installed:
        pytest.skip(f"{known.needs} is not installed")


def test_every_block_has_a_reference() -> None:
    assert set(references) == set(blocks)


@pytest.mark.parametrize("spec", EXAMPLES, ids=str)
def test_a_block_is_its_reference(spec: Block) -> None:
    needs_installed(spec)
    assert deviation(spec, WIDTH).worst < TOLERANCE


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spec", EXAMPLES, ids=str)
def test_a_slice_is_the_reference_of_its_size(spec: Block, seed: int) -> None:
    needs_installed(spec)
    dice = Random(f"{seed}/{spec}")
    small, d_model = smaller(spec, dice), dice.choice([11, 12, 17, 20])
    assert (
        deviation(small, d_model, large=spec, width=WIDTH, seed=seed, count=dice.randint(1, 70)).worst
        < TOLERANCE
    )


def smaller(spec: Block, dice: Random) -> Block:
    """A block whose parameters are leading slices of those of `spec`: some sizes reduced, as far as legal."""
    names = [name for name in field_names(type(spec)) if name in SIZES]
    for _ in range(50):
        changes: dict[str, Any] = {}
        # not below a half: a group norm of two channels has hardly a gradient, and float32 loses it
        for name in dice.sample(names, dice.randint(0, len(names))):
            size = getattr(spec, name)
            changes[name] = (
                dice.randint(-(-size // 2), size)
                if isinstance(size, int)
                else round(dice.uniform(0.3, size), 2)
            )
        found = replace(spec, **changes)
        try:
            found.check(11)
            found.check(20)
            even_for_deepseek(found)
        except IllegalArchitecture:
            continue
        if set(shapes(found)) == set(shapes(spec)):
            return found
    return spec


def even_for_deepseek(spec: Block) -> None:
    """Their layer turns channels as complex numbers, and wants those before them to be even in number."""
    if isinstance(spec, LatentAttention) and (spec.kv_rank % 2 or spec.head_dim % 2):
        raise IllegalArchitecture("the reference cannot be built at odd sizes")


def shapes(spec: Block) -> dict[str, Any]:
    return {name: p.shape for name, p in spec.build(WIDTH).named_parameters()}


def test_slices_are_really_smaller() -> None:
    dice = Random(0)
    shrunk = [spec for spec in EXAMPLES if any(smaller(spec, dice) != spec for _ in range(5))]
    able = [spec for spec in EXAMPLES if SIZES & {field.name for field in fields(spec)}]
    assert len(shrunk) > 0.8 * len(able)
