"""The pieces of a batch on their way through the stages of a pipeline (`methods.pipeline`)."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

from evaluators.training.parallel.course import Course
from evaluators.training.parallel.grid import Grid
from evaluators.training.parallel.network import Shared
from evaluators.training.parallel.piece_losses import scaled_losses
from evaluators.training.precision import BFLOAT16

SCHEDULES: dict[str, Any] = {"1f1b": Schedule1F1B, "gpipe": ScheduleGPipe}


class StageRun:
    """One stage, with its schedule."""

    def __init__(self, module: nn.Module, network: Shared, course: Course, grid: Grid) -> None:
        self.network, self.grid, self.course = network, grid, course
        self.scale = (1.0, 1.0)
        self.sums = torch.zeros(2, dtype=torch.double, device=grid.device)
        rows = course.batch // (course.parallel.readers * course.accumulate)
        stage = PipelineStage(
            module,
            grid.index("pp"),
            grid.size("pp"),
            grid.device,
            input_args=self._shapes(rows, entering=True),
            output_args=self._shapes(rows, entering=False),
            group=grid.group("pp"),
        )
        kind = SCHEDULES[course.parallel.of("pp").to_plain()["schedule"]]
        self.schedule = kind(stage, course.accumulate, loss_fn=self._loss, scale_grads=False)
        self.ends = _ends(grid)

    def run(self, tokens: Tensor, targets: Tensor, scale: tuple[float, float]) -> Tensor:
        """Gradients of these rows here; cross-entropy and auxiliary loss, summed [2], in the last stage."""
        self.scale = scale
        self.sums.zero_()
        if self.network.first:
            self.schedule.step(tokens)
        elif self.network.last:
            self.schedule.step(target=targets, return_outputs=False)
        else:
            self.schedule.step()
        if self.ends is not None:
            for name in self.network.shell.at_both_ends:
                dist.all_reduce(getattr(self.network, name).grad, group=self.ends)
        return self.sums.clone()

    def _loss(self, output: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
        losses = scaled_losses(output, targets, self.scale)
        self.sums += losses.detach().double()
        return losses.sum()

    def _shapes(self, rows: int, *, entering: bool) -> tuple[Tensor, ...]:
        """What comes into a stage, or leaves it, for one piece."""
        spec, length, dtype = self.network.spec, self.course.task.length, self.course.torch_dtype
        if entering and self.network.first:
            return (torch.empty(rows, length, dtype=torch.long, device="meta"),)
        logits = self.network.last and not entering
        width, low = spec.vocab if logits else spec.d_model, self.course.recipe.precision == BFLOAT16
        kind = torch.bfloat16 if logits and low else dtype  # the stream itself is a sum in full precision
        stream = torch.empty(rows, length, width, dtype=kind, device="meta", requires_grad=True)
        return (stream, torch.empty(1, dtype=dtype, device="meta", requires_grad=True))


def _ends(grid: Grid) -> dist.ProcessGroup | None:
    """The first and the last stage of this process's pipeline; None in between."""
    assert grid.mesh is not None
    mine = None
    stages = grid.mesh.mesh.flatten(1)
    for column in stages.unbind(1):
        ranks = [int(column[0]), int(column[-1])]
        group = dist.new_group(ranks)
        if grid.rank in ranks:
            mine = group
    return mine
