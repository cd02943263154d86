"""A pass of a network whose rows have adapters of their own, around blocks that know nothing of it.

    y = c (W x + U (V x))          c [N, 1], U [N, r] and V [r, K] of the row's adapter, W of all rows

The product with W is one for the whole batch; what the row's factors add to it are two small products for
each row (Sheng et al. 2023, arXiv:2311.03285, section 5). A mode sees each product with an adapted parameter,
as that of rounded activations does, so that every block can be adapted that multiplies by `F.linear` or per
head. Where one sorts its rows (experts), a batch has one adapter at a time. `trial` finds out which it is.

Shapes: B rows, R tokens of all of them, H heads, N outputs, K inputs, r rank, S slots of adapters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from evaluators.compression.adapters import Factors
from search_spaces.ops.linear import linear_per_head


class OtherRows(Exception):
    """What is multiplied has other rows than the batch, or a part of the parameter alone."""


@dataclass(frozen=True)
class Stack:
    """The factors of one parameter of M stacked matrices for every slot.

    V is down [S, M, r, K], U is up [S, M, N, r], and c is scale [S, M, N, 1], if any adapter has one.
    """

    parameter: nn.Parameter
    down: Tensor
    up: Tensor
    scale: Tensor | None

    def of(self, weight: Tensor) -> Factors:
        """Those of every slot for the matrices that a view of the parameter holds: one, or all.

        Raises:
            OtherRows: it is a part of a matrix.
        """
        size, count = self.up.shape[2] * self.down.shape[-1], self.down.shape[1]
        if weight.numel() == count * size:
            return Factors(self.down, self.up, self.scale)
        if weight.numel() != size:
            raise OtherRows
        at = (weight.storage_offset() - self.parameter.storage_offset()) // size
        one = slice(at, at + 1)
        scale = None if self.scale is None else self.scale[:, one]
        return Factors(self.down[:, one], self.up[:, one], scale)


class AdaptedRows(TorchFunctionMode):
    """While it is entered, each row of a batch has the adapter of its slot [B]; or all have that of one."""

    def __init__(self, stacks: Mapping[int, Stack], slots: Tensor | int) -> None:
        """`stacks` are by the id of their parameter."""
        super().__init__()
        self._stacks, self._slots = stacks, slots

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Add to a product with an adapted parameter, and leave everything else alone."""
        if func is F.linear:
            stack = self._stack(args[1])
            if stack is not None:
                return self._linear(stack, *args, **(kwargs or {}))
        elif func is linear_per_head:
            stack = self._stack(args[1])
            if stack is not None:
                return self._adapted(args[0], func(*args), stack.of(args[1]), heads=True)
        return func(*args, **(kwargs or {}))

    def _stack(self, weight: Tensor) -> Stack | None:
        """That of the parameter which this is, or is a view of."""
        owner = weight._base
        return self._stacks.get(id(weight if owner is None else owner))

    def _linear(self, stack: Stack, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        y = self._adapted(x, F.linear(x, weight), stack.of(weight), heads=False)
        return y if bias is None else y + bias

    def _adapted(self, x: Tensor, y: Tensor, factors: Factors, *, heads: bool) -> Tensor:
        """A product y of x, with what the factors of the rows' slots make of it."""
        if isinstance(self._slots, int):
            slot = slice(self._slots, self._slots + 1)
            scale = None if factors.scale is None else factors.scale[slot]
            one = Factors(factors.down[slot], factors.up[slot], scale)
            return (_heads if heads else _matrices)(x[None], y[None], one)[0]
        own = (None if part is None else part[self._slots] for part in factors)
        adapted: Tensor = _EachRow.apply(x, y, heads, *own)
        return adapted


def _matrices(x: Tensor, y: Tensor, factors: Factors) -> Tensor:
    """c (y + U (V x)) [B, ..., M N] of x [B, ..., K]."""
    down, up, scale = factors
    if len(x) != len(down):
        raise OtherRows
    low = torch.bmm(x.reshape(len(x), -1, x.shape[-1]), down.flatten(1, 2).mT)
    if down.shape[1] == 1:
        added = torch.bmm(low, up[:, 0].mT)
    else:
        added = torch.einsum("btmr,bmnr->btmn", low.unflatten(-1, down.shape[1:3]), up).flatten(-2)
    y = y + added.view_as(y)
    return y if scale is None else y * scale.reshape(len(scale), *[1] * (y.dim() - 2), -1)


def _heads(x: Tensor, y: Tensor, factors: Factors) -> Tensor:
    """The same [B, H, T, J] of x [B, H, T, K] and weights [H, J, K]: one matrix of H J rows, or H of J."""
    down, up, scale = factors
    low = torch.einsum("bhtk,bmrk->bhtr" if down.shape[1] == 1 else "bhtk,bhrk->bhtr", x, down)
    y = y + torch.einsum("bhtr,bhjr->bhtj", low, up.reshape(len(up), y.shape[1], -1, up.shape[-1]))
    return y if scale is None else y * scale.reshape(len(scale), y.shape[1], 1, -1)


class _EachRow(torch.autograd.Function):
    """Both, also where rows are mapped one by one: then x and y have no axis of rows that can be seen."""

    @staticmethod
    def forward(x: Tensor, y: Tensor, heads: bool, *factors: Any) -> Tensor:
        """x [B, ...], or of heads [H, R, K] with the tokens of each row in R."""
        if not heads:
            return _matrices(x, y, Factors(*factors))
        count = len(factors[0])
        if x.shape[1] % count:
            raise OtherRows
        x, y = (part.unflatten(1, (count, -1)).transpose(0, 1) for part in (x, y))
        return _heads(x, y, Factors(*factors)).transpose(0, 1).flatten(1, 2)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: adapters are served, not learned."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, y: Tensor, heads: bool, *factors: Any) -> tuple[Tensor, int]:
        """The rows are the axis that is mapped."""
        x, y = x.movedim(in_dims[0], 0), y.movedim(in_dims[1], 0)
        return (_heads if heads else _matrices)(x, y, Factors(*factors)), 0
