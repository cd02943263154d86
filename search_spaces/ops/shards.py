"""Sums over the parts of a block that is split among processes, for what couples its heads or channels.

A block whose heads are split (tensor parallelism: `search_spaces.splitting`) computes with its own heads
alone. Where it needs a figure of all of them, such as the mean square of a norm over all heads, it says so:

    total = sum_over_parts(y.square().sum(-1, keepdim=True))

Outside of a split this is the identity, and costs a look at a variable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

import torch
from torch import Tensor

from search_spaces.ops.precision import rms_norm
from search_spaces.ops.tracing import constant

Sum: TypeAlias = Callable[[Tensor], Tensor]
"""A tensor as the sum over all parts, the same for each of them; gradients are summed as well."""

_parts: ContextVar[tuple[int, Sum] | None] = ContextVar("parts", default=None)


@contextmanager
def split_into(count: int, sum_parts: Sum) -> Iterator[None]:
    """The forward pass of one of `count` parts."""
    before = _parts.set((count, sum_parts))
    try:
        yield
    finally:
        _parts.reset(before)


def parts_in_all() -> int:
    """Among how many parts the block is split."""
    split = _parts.get() if _is_split() else None
    return 1 if split is None else split[0]


def sum_over_parts(x: Tensor) -> Tensor:
    """The sum of x over all parts of the block."""
    split = _parts.get() if _is_split() else None
    return x if split is None else split[1](x)


def biased(y: Tensor, bias: Tensor | None) -> Tensor:
    """What a block puts out, with its bias if it has one: of a block that is split, a share of it."""
    return y if bias is None else y + bias / parts_in_all()


@constant
def _is_split() -> bool:
    """What is compiled outside of a split is for blocks that are whole: compilers follow no context."""
    return _parts.get() is not None


def rms_norm_of_parts(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """RMS norm of x [..., C] with a weight [C], where the mean is over the channels of all parts."""
    count = parts_in_all()
    if count == 1:
        return rms_norm(x, tuple(weight.shape), weight, epsilon)
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    squares = sum_over_parts(exact.square().sum(-1, keepdim=True))
    normed = exact * (squares / (count * x.shape[-1]) + epsilon).rsqrt()
    return (normed * weight).to(torch.promote_types(x.dtype, weight.dtype))
