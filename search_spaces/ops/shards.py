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
from typing import Any, TypeAlias

import torch
from torch import Tensor

from search_spaces.ops.precision import own_types, rms_norm
from search_spaces.ops.tracing import constant

Sum: TypeAlias = Callable[[Tensor], Tensor]
"""A tensor as the sum over all parts, the same for each of them; gradients are summed as well."""

_parts: ContextVar[tuple[int, Sum, str] | None] = ContextVar("parts", default=None)

totals: dict[str, Sum] = {}
"""New tensors of sums over all parts, without gradients, by names: those are what a compiled part knows."""


@torch.library.custom_op("nas::total_of_parts", mutates_args=())
def total(x: Tensor, name: str) -> Tensor:
    """The sum of x over all parts, by one of `totals`."""
    return totals[name](x)


@total.register_fake
def _(x: Tensor, name: str) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@contextmanager
def split_into(count: int, sum_parts: Sum, name: str = "") -> Iterator[None]:
    """The forward pass of one of `count` parts.

    Compilers follow no context: what they trace is for the parts of the context around them, and sums by the
    `name` of one of `totals`.
    """
    before = _parts.set((count, sum_parts, name))
    try:
        yield
    finally:
        _parts.reset(before)


@constant
def parts_in_all() -> int:
    """Among how many parts the block is split."""
    split = _parts.get()
    return 1 if split is None else split[0]


def sum_over_parts(x: Tensor) -> Tensor:
    """The sum of x over all parts of the block."""
    if parts_in_all() == 1:
        return x
    if torch.compiler.is_compiling():
        summed: Tensor = SumOfAll.apply(x, _name())
        return summed
    split = _parts.get()
    return x if split is None else split[1](x)


@constant
def _name() -> str:
    split = _parts.get()
    return "" if split is None else split[2]


@own_types
class SumOfAll(torch.autograd.Function):
    """The total of a name, whose gradients are summed as well, since each part goes on with it by itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, name: str) -> Tensor:
        """The sum of x over all parts."""
        ctx.name = name
        return total(x, name)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """The sum of the gradients."""
        return total(grads[0], ctx.name), None


def biased(y: Tensor, bias: Tensor | None) -> Tensor:
    """What a block puts out, with its bias if it has one: of a block that is split, a share of it."""
    return y if bias is None else y + bias / parts_in_all()


def rms_norm_of_parts(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """RMS norm of x [..., C] with a weight [C], where the mean is over the channels of all parts."""
    count = parts_in_all()
    if count == 1:
        return rms_norm(x, tuple(weight.shape), weight, epsilon)
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    squares = sum_over_parts(exact.square().sum(-1, keepdim=True))
    normed = exact * (squares / (count * x.shape[-1]) + epsilon).rsqrt()
    return (normed * weight).to(torch.promote_types(x.dtype, weight.dtype))
