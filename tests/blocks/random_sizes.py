"""Blocks of random sizes, for contracts that must hold at every size."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Block
from search_spaces.language.choices import field_names

SIZES = frozenset(
    ("num_heads", "head_dim", "state_dim", "num_experts", "expansion", "channels", "filter_dim")
) | {"num_features"}
"""Fields that may shrink by themselves: axes of parameters."""


def smaller(spec: Block, dice: Random, *widths: int) -> Block:
    """A block whose parameters are leading slices of those of `spec`: some sizes at most halved.

    It is legal at `widths` and has the parameters of `spec`, which is returned if 50 draws find no other.
    """
    names = [name for name in field_names(type(spec)) if name in SIZES]
    for _ in range(50):
        # not below a half: a group norm of two channels has hardly a gradient, and float32 loses it
        changed = dice.sample(names, dice.randint(0, len(names)))
        candidate = replace(spec, **{name: _smaller_size(getattr(spec, name), dice) for name in changed})
        if _legal(candidate, widths) and _parameters(candidate, widths[0]) == _parameters(spec, widths[0]):
            return candidate
    return spec


def _smaller_size(size: float, dice: Random) -> Any:
    return dice.randint(-(-size // 2), size) if isinstance(size, int) else round(dice.uniform(0.3, size), 2)


def _legal(spec: Block, widths: tuple[int, ...]) -> bool:
    try:
        for d_model in widths:
            spec.check(d_model)
    except IllegalArchitecture:
        return False
    return True


def _parameters(spec: Block, d_model: int) -> set[str]:
    return {name for name, _ in spec.build(d_model).named_parameters()}
