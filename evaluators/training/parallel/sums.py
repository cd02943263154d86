"""Sums over the processes that compute the parts of a block, with what their gradients are.

A sum is one operation to a compiler (`search_spaces.ops.shards.total`). While a part is compiled there is
nobody to sum with, as another process may be at another place: `alone`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from evaluators.training.parallel.grid import Grid
from search_spaces.ops.shards import SumOfAll, split_into, total, totals

_alone: list[bool] = []
"""Not empty while `alone`."""


@contextmanager
def alone() -> Iterator[None]:
    """Meanwhile sums are those of this process, which mean nothing."""
    _alone.append(True)
    try:
        yield
    finally:
        _alone.pop()


def _over_all(group: dist.ProcessGroup, x: Tensor) -> Tensor:
    summed = x.clone(memory_format=torch.contiguous_format)
    if not _alone:
        dist.all_reduce(summed, group=group)
    return summed


@dataclass(frozen=True)
class Sums:
    """This process is the one of `index` among `count`; without a `group` nobody is there to sum with."""

    count: int
    index: int
    group: str = ""

    @classmethod
    def along(cls, grid: Grid, axis: str) -> Sums:
        """Those of the processes along an axis."""
        if grid.mesh is None:
            return cls(grid.size(axis), grid.index(axis))
        group = grid.group(axis)
        totals[group.group_name] = partial(_over_all, group)
        return cls(grid.size(axis), grid.index(axis), group.group_name)

    def copied(self, x: Tensor) -> Tensor:
        """x, whose gradient is the sum over the parts that read it."""
        if not self.group:
            return x
        copied: Tensor = _Copy.apply(x, self.group)
        return copied

    def summed(self, x: Tensor) -> Tensor:
        """The sum of the parts, read alike by all processes."""
        if not self.group:
            return x
        total: Tensor = _Sum.apply(x, self.group)
        return total

    def of_all(self, x: Tensor) -> Tensor:
        """The sum of a figure that each part goes on with in its own way."""
        if not self.group:
            return x
        figure: Tensor = SumOfAll.apply(x, self.group)
        return figure

    def split(self) -> AbstractContextManager[None]:
        """The forward pass of a part of a block."""
        return split_into(self.count, self.of_all, self.group)

    def shared(self, loss: Tensor) -> Tensor:
        """The sum of the parts' equal shares of a loss."""
        return self.summed(loss)

    def gathered(self, x: Tensor, dim: int) -> Tensor:
        """All parts along an axis, of which this process goes on with its own (`own_part`)."""
        shape = list(x.shape)
        shape[dim] *= self.count
        whole = x.new_zeros(shape)
        begin = self.index * x.shape[dim]
        return self.summed(whole.slice_scatter(x, dim, begin, begin + x.shape[dim]))

    def own_part(self, x: Tensor, dim: int) -> Tensor:
        """This process's part of all."""
        return x.chunk(self.count, dim)[self.index].contiguous()


class _Copy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: str) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return total(grads[0], ctx.group), None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: str) -> Tensor:
        return total(x, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None
