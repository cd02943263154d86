"""Which size of a block can stand in for another one, its parameters zero beyond the other's slices.

This is not declared but tried: both blocks are built with random weights and compared in float64. Fields that
change no parameter's shape are never masked: zeros cannot imitate a shorter window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Block, Mixer
from search_spaces.language.choices import field_names
from search_spaces.network.cost import parameter_shapes
from search_spaces.network.initialization import dice_at

Variant: TypeAlias = "tuple[Block, int]"
"""A closed block and the width it stands in."""

TRIED_TOKENS = 67
TOLERANCE = 1e-10


@lru_cache(maxsize=4096)
def stands_in(large: Variant, small: Variant) -> bool:
    """Whether `large`, its parameters zero beyond the slices of `small`, computes what `small` computes."""
    if large == small:
        return True
    wide, narrow = parameter_shapes(*large), parameter_shapes(*small)
    if type(large[0]) is not type(small[0]) or list(wide) != list(narrow):
        return False
    if any(len(wide[n]) != len(narrow[n]) or any(map(int.__lt__, wide[n], narrow[n])) for n in wide):
        return False
    return _only_sizes_differ(large, small) and _agree(large, small)


def _only_sizes_differ(large: Variant, small: Variant) -> bool:
    block, d_model = large
    for name in field_names(type(block)):
        value = getattr(small[0], name)
        if value == getattr(block, name):
            continue
        if _holds_blocks(value):
            inner = zip(getattr(block, name), value, strict=True)
            if not all(_only_sizes_differ((one, d_model), (other, d_model)) for one, other in inner):
                return False
            continue
        changed: Any = replace(block, **{name: value})
        try:
            changed.check(d_model)
        except IllegalArchitecture:
            return False
        if parameter_shapes(changed, d_model) == parameter_shapes(block, d_model):
            return False
    return True


def _holds_blocks(value: Any) -> bool:
    """Whether a field holds blocks: of the same kinds in variants whose parameters have the same names."""
    return isinstance(value, tuple) and any(isinstance(each, Block) for each in value)


def _agree(large: Variant, small: Variant) -> bool:
    dice = dice_at(0, f"{small}", torch.device("cpu"))
    modules: list[Mixer] = []
    for block, d_model in (small, large):
        module = block.build(d_model)
        with torch.no_grad():
            module.reset_parameters(dice)
        modules.append(module.double())
    less, more = modules
    with torch.no_grad():
        for own, full in zip(less.parameters(), more.parameters(), strict=True):
            own.add_(torch.randn(own.shape, generator=dice, dtype=own.dtype), alpha=0.1)
            full.zero_()[tuple(slice(size) for size in own.shape)] = own
    x = torch.randn(2, TRIED_TOKENS, small[1], generator=dice, dtype=torch.float64)
    padded = F.pad(x, (0, large[1] - small[1]))
    for learning in (False, True):
        with torch.set_grad_enabled(learning):
            narrow, wide = less(x), more(padded)
        if not _close(F.pad(narrow.y, (0, large[1] - small[1])), wide.y) or not _close(
            narrow.loss, wide.loss
        ):
            return False
    return True


def _close(first: Tensor | None, second: Tensor | None) -> bool:
    if first is None or second is None:
        return first is second
    return torch.allclose(first, second, rtol=TOLERANCE, atol=TOLERANCE)


def grouped(variants: Sequence[Variant]) -> list[list[int]]:
    """Indices of variants that one pass can carry, the largest first in each group."""
    sizes = [sum(torch.Size(s).numel() for s in parameter_shapes(*v).values()) for v in variants]
    groups: list[list[int]] = []
    # by width where sizes are equal: without parameters, the widest block still stands in for the others
    for i in sorted(range(len(variants)), key=lambda i: (-sizes[i], -variants[i][1])):
        group = next((g for g in groups if stands_in(variants[g[0]], variants[i])), None)
        if group is None:
            groups.append([i])
        else:
            group.append(i)
    return groups
