"""Data parallelism: every process holds the network and reads its rows of the batch; gradients are averaged.

`torch.nn.parallel.DistributedDataParallel` averages them while the backward pass still runs. With `dp.zero=1`
each process keeps the optimizer state of its share of the parameters, makes their steps, and tells the others
(ZeRO stage 1: Rajbhandari et al. 2020, arXiv:1910.02054, section 5.1; `ZeroRedundancyOptimizer`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

from evaluators.training.parallel.grid import Grid
from evaluators.training.parallel.methods.base import Method, methods
from foundation.settings import setting


@methods.add
@dataclass(frozen=True, kw_only=True)
class DataParallel(Method):
    """Replicas that read different rows."""

    name: ClassVar[str] = "dp"
    summary: ClassVar[str] = "Data parallelism (DDP): replicas that each read their rows of the batch."
    place: ClassVar[int] = 1
    beside: ClassVar[tuple[str, ...]] = ("fsdp", "tp", "pp")
    reads: ClassVar[bool] = True

    zero: int = setting(
        0,
        help="ZeRO stage: with 1, replicas share the optimizer state (stages 2 and 3 are fsdp).",
        least=0,
        most=1,
    )

    @property
    def cuts(self) -> bool:
        """With `zero`, the steps are shared."""
        return self.zero > 0

    def connect(self, module: nn.Module, grid: Grid) -> nn.Module:
        """Average gradients; under FSDP, the replicas are the other axis of its mesh."""
        if grid.size("fsdp") > 1:
            return module
        return DistributedDataParallel(module, process_group=grid.group("dp"), gradient_as_bucket_view=True)

    def with_optimizer(self, optimizer: torch.optim.Optimizer, grid: Grid) -> torch.optim.Optimizer:
        """With `zero`, each process makes the steps of its share."""
        if not self.zero:
            return optimizer
        kind: Any = type(optimizer)
        return ZeroRedundancyOptimizer(optimizer.param_groups, kind, process_group=grid.group("dp"))

    def optimizer_share(self, groups: list[list[int]], index: int) -> int:
        """As `ZeroRedundancyOptimizer` shares them: group by group, the largest goes to who has least."""
        if not self.zero:
            return super().optimizer_share(groups, index)
        held = [0] * self.degree
        for sizes in groups:
            for size in sorted(sizes, reverse=True):
                held[held.index(min(held))] += size
        return held[index]
