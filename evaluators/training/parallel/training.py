"""One process of a shared training: its gradients, its steps, and its pieces of a checkpoint.

The loss of a step is the mean over all judged targets of the batch, whoever reads them. A batch is read in
`accumulate` pieces by each of the processes that read different rows, so two processes compute what one does
with twice the pieces.

Shapes: B batch, T tokens, V vocab.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from evaluators.tasks.base import IGNORED
from evaluators.training.losses import Losses
from evaluators.training.parallel.course import Course
from evaluators.training.parallel.grid import Grid
from evaluators.training.parallel.network import Holder, Shared
from evaluators.training.parallel.piece_losses import scaled_losses
from evaluators.training.parallel.pieces import Piece, Pieces
from evaluators.training.parallel.stages import StageRun
from evaluators.training.precision import computing_in
from evaluators.training.regions import Regions
from foundation.errors import FileError
from search_spaces.network.layer import AS_THEY_ARE

EPSILON = 1e-6
"""Added to the norm that gradients are divided by, as in `torch.nn.utils.clip_grad_norm_`."""


class ParallelTraining:
    """The training of a course, as far as this process has a part in it."""

    def __init__(self, course: Course, grid: Grid, pieces: Pieces) -> None:
        self.course, self.grid, self.step = course, grid, 0
        with torch.device("meta"):
            network = Shared(course.decoder(), course.recipe.rates_by_kind)
        network = network.to(course.torch_dtype)
        for method in course.parallel.methods:
            method.divide(network, grid)
        self.regions = self._regions()
        holder = Holder(
            network,
            precision=course.recipe.precision,
            recomputed=course.recomputed,
            parts=self.regions if self.regions.compiles else AS_THEY_ARE,
        )
        for method in course.parallel.methods:
            method.shard(holder, grid)
        holder.to_empty(device=grid.device)
        self.network, self.parameters = network, dict(network.named_parameters())
        self._read(pieces, "weight", {name: local_of(weight) for name, weight in self.parameters.items()})
        module: nn.Module = holder
        for method in course.parallel.methods:
            module = method.connect(module, grid)
        self.module = module.train()
        self.optimizer = course.recipe.optimizer.make(self.parameters, network.rates, network.whole_roles)
        for method in course.parallel.methods:
            self.optimizer = method.with_optimizer(self.optimizer, grid)
        self.stages = StageRun(self.module, network, course, grid) if grid.size("pp") > 1 else None

    def learn(self) -> tuple[float, ...]:
        """One step; its loss in the task's unit.

        Raises:
            EvaluationFailed: a loss is not finite; the weights stay as they were before the step.
        """
        recipe = self.course.recipe
        share = self.course.rate * recipe.schedule.share(self.step + 1, self.course.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * share
        for weight in self.parameters.values():
            weight.grad = None
        with computing_in(recipe.precision):
            losses = self._gradients()
        losses.require_finite(self.step + 1)
        if recipe.clip is not None:
            self._clip(recipe.clip)
        self.optimizer.step()
        self.step += 1
        return losses.shown

    def _regions(self) -> Regions:
        """What compiles sublayers here; parts of a block are compiled by all who sum them, or by none."""
        regions = Regions(self.course.backend, self.course.compile_seconds)
        if self.grid.size("tp") > 1:
            regions.agreed = partial(self.grid.all_wish, "tp")
        return regions

    def _gradients(self) -> Losses:
        """Of the next batch: cross-entropy and what the layers add to it."""
        course, readers = self.course, self.course.parallel.readers
        batch = course.task.train_batch_on(self.grid.device, self.step, course.seed, course.batch)
        judged = int((batch[1] != IGNORED).sum())
        tokens, targets = (part.chunk(readers)[self._reader] for part in batch)
        # replicas average their gradients, so each minimises as many times its share
        scale = (readers / judged, 1 / course.accumulate)
        if self.stages is not None:
            sums = self.stages.run(tokens, targets, scale)
        else:
            sums = self._read_pieces(tokens, targets, scale)
        copies = readers * self.grid.size("tp")
        loss, auxiliary = (self.grid.sum_all(sums) / copies).tolist()
        return Losses((loss / course.task.nats,), {"the training loss": loss + auxiliary})

    @property
    def _reader(self) -> int:
        return self.grid.index("dp") * self.grid.size("fsdp") + self.grid.index("fsdp")

    def _read_pieces(self, tokens: Tensor, targets: Tensor, scale: tuple[float, float]) -> Tensor:
        """Piece by piece; cross-entropy and auxiliary loss, summed [2]."""
        sums = torch.zeros(2, dtype=torch.double, device=tokens.device)
        pieces = list(
            zip(tokens.chunk(self.course.accumulate), targets.chunk(self.course.accumulate), strict=True)
        )
        for number, (some, wanted) in enumerate(pieces):
            with self._unsynchronized(last=number == len(pieces) - 1):
                losses = scaled_losses(self.module(some), wanted, scale)
                losses.sum().backward()
            sums += losses.detach().double()
        return sums

    def _unsynchronized(self, *, last: bool) -> AbstractContextManager[Any]:
        """Replicas average their gradients once, after the last piece."""
        if isinstance(self.module, DistributedDataParallel) and not last:
            return self.module.no_sync()
        return nullcontext()

    def _clip(self, most: float) -> None:
        """Scale all gradients where their norm, over all processes, is larger."""
        grads = {name: weight.grad for name, weight in self.parameters.items() if weight.grad is not None}
        total = torch.zeros(1, dtype=torch.double, device=self.grid.device)
        for name, grad in grads.items():
            total += local_of(grad).double().square().sum() / self.copies(name)
        norm = float(self.grid.sum_all(total).sqrt())
        factor = min(1.0, most / (norm + EPSILON))
        if factor < 1:
            for grad in grads.values():
                grad.mul_(factor)

    def copies(self, name: str) -> int:
        """How many processes hold the same values of a parameter."""
        cut, tp = self.network.plan.cuts.get(name), self.grid.size("tp")
        return self.grid.size("dp") * (tp if cut is None or cut.dim is None else 1) * self._holders(name)

    def _holders(self, name: str) -> int:
        return self.network.plan.holders.get(name, 1)

    def pieces(self) -> dict[str, Piece]:
        """The weights and optimizer states that this process writes: no process before it holds them."""
        found: dict[str, Piece] = {}
        states: Mapping[Any, Any] = _local_optimizer(self.optimizer).state
        for name, weight in self.parameters.items():
            if self._is_first(name):
                found[f"weight/{name}"] = self._piece(name, local_of(weight))
            owner = self._is_first(name, zero=_local_optimizer(self.optimizer) is not self.optimizer)
            for key, value in states.get(weight, {}).items() if owner else ():
                state = local_of(value)
                if state.shape == local_of(weight).shape:
                    found[f"{key}/{name}"] = self._piece(name, state)
                elif self._begins(name):
                    found[f"{key}/{name}"] = Piece(state, (0,) * state.dim(), tuple(state.shape))
        return {name: piece for name, piece in found.items() if piece.tensor.numel()}

    def restore(self, pieces: Pieces, step: int) -> None:
        """Continue after `step` steps with a checkpoint's optimizer states; the weights are read already."""
        self.step = step
        state = _local_optimizer(self.optimizer).state
        own = {id(w) for group in _local_optimizer(self.optimizer).param_groups for w in group["params"]}
        for kind in pieces.kinds():
            for name in pieces.names(kind) if kind != "weight" else ():
                weight = self.parameters.get(name)
                if weight is not None and id(weight) in own:
                    state[weight][kind] = self._state(pieces, f"{kind}/{name}", name, weight)

    def _state(self, pieces: Pieces, flat: str, name: str, weight: Tensor) -> Tensor:
        """The state of a parameter here, shared as the parameter is."""
        if pieces.shapes[flat] != self.network.plan.shapes[name]:
            return pieces.whole(flat).to(self.grid.device)
        local = torch.empty_like(local_of(weight))
        self._read_into(pieces, flat, name, local)
        if not isinstance(weight, DTensor):
            return local
        return DTensor.from_local(
            local,
            weight.device_mesh,
            weight.placements,
            run_check=False,
            shape=weight.shape,
            stride=weight.stride(),
        )

    def _read(self, pieces: Pieces, kind: str, into: Mapping[str, Tensor]) -> None:
        missing = [name for name in into if f"{kind}/{name}" not in pieces.shapes]
        if missing:
            raise FileError(f"the checkpoint has no weight {missing[0]}: it is that of another network")
        for name, local in into.items():
            self._read_into(pieces, f"{kind}/{name}", name, local)

    def _read_into(self, pieces: Pieces, flat: str, name: str, local: Tensor) -> None:
        if pieces.shapes[flat] != self.network.plan.shapes[name]:
            raise FileError(f"{flat} has shape {pieces.shapes[flat]}, not {self.network.plan.shapes[name]}")
        if local.numel():
            with torch.no_grad():
                local.copy_(pieces.box(flat, self._offset(name), tuple(local.shape)))

    def _piece(self, name: str, local: Tensor) -> Piece:
        return Piece(local, self._offset(name), self.network.plan.shapes[name])

    def _offset(self, name: str) -> tuple[int, ...]:
        """Where this process's part of a parameter begins in the whole."""
        shape = self.network.plan.shapes[name]
        offset, part = [0] * len(shape), list(shape)
        cut = self.network.plan.cuts.get(name)
        if cut is not None and cut.dim is not None:
            part[cut.dim] //= cut.count
            offset[cut.dim] += cut.index * part[cut.dim]
        if isinstance(self.parameters[name], DTensor):
            rows = -(-part[0] // self.grid.size("fsdp"))
            offset[0] += min(rows * self.grid.index("fsdp"), part[0])
        return tuple(offset)

    def _is_first(self, name: str, *, zero: bool = False) -> bool:
        """Whether no process before this one holds the same values; with `zero`, states are nobody else's."""
        cut = self.network.plan.cuts.get(name)
        split = cut is not None and cut.dim is not None
        first = split or self.grid.index("tp") == 0
        return (
            first
            and (zero or self.grid.index("dp") == 0)
            and (self._holders(name) == 1 or self.network.first)
        )

    def _begins(self, name: str) -> bool:
        """Whether this process's part of a parameter begins where the parameter does."""
        return not any(self._offset(name)) and local_of(self.parameters[name]).numel() > 0

    def held(self) -> dict[str, int]:
        """Bytes that this process holds of weights, gradients and optimizer states."""
        weights = list(self.parameters.values())
        states: Mapping[Any, Any] = _local_optimizer(self.optimizer).state
        kept = [value for state in states.values() for value in state.values() if isinstance(value, Tensor)]
        return {
            "weights": _bytes(weights),
            "gradients": _bytes([weight.grad for weight in weights if weight.grad is not None]),
            "optimizer": _bytes(kept),
        }


def local_of(x: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return x.to_local() if isinstance(x, DTensor) else x.detach()


def _local_optimizer(optimizer: torch.optim.Optimizer) -> Any:
    """The optimizer that holds this process's states."""
    return getattr(optimizer, "optim", optimizer)  # of a `ZeroRedundancyOptimizer`


def _bytes(tensors: list[Any]) -> int:
    return sum(local_of(tensor).numel() * tensor.element_size() for tensor in tensors)
