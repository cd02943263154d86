"""The supernet as an evaluator: one training for all architectures, then a score for any of them in a moment.

Training follows the sandwich rule (`evaluators.supernet.sandwich`). Each subnet of a step reads a batch of
its own: the step costs the same and the shared weights see more text. Or, with in-place distillation, all
read one batch: the largest subnet learns from the text, the others from the text and, more and more, from
what the largest one predicts (Yu et al. 2020, arXiv:2003.11142). Training may go in phases that open more and
more of the space (`evaluators.supernet.shrinking`), with what is important sorted to the front before each
(`evaluators.supernet.importance`). Weights are rounded to the bits of the layers, gradients pass straight
through. The learning rate is the blocks' own, warmed up, then falling linearly. `evaluators.supernet.recipe`
holds all that can be chosen.

The checkpoint holds weights and optimizer state; a training that was killed goes on from it to the same loss
curve, because every step's chance comes from (seed, step), and its phase from the step.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluators.scoring.base import Evaluator, Score
from evaluators.supernet.importance import Sorted, sort_by_importance
from evaluators.supernet.recipe import Recipe, Work
from evaluators.supernet.sandwich import Sandwich
from evaluators.supernet.shrinking import Phase, narrowed, phase_at, starts
from evaluators.tasks.base import IGNORED, Task
from evaluators.training import checkpoints
from evaluators.training.compilation import Compiled
from evaluators.training.process_group import ALONE, Workers
from evaluators.training.resumable import Resumable, Trajectory
from evaluators.training.training import (
    BETAS,
    CLIP,
    WARM_UP,
    WEIGHT_DECAY,
    adamw,
    state_segment,
    token_loss,
    window_losses,
)
from foundation.errors import EvaluationFailed, SpaceError
from search_spaces.language.serialization import from_json, to_json
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder
from search_spaces.supernet import Subnet, Supernet, Weights

CURVE = "curve.json"
SAVE_SECONDS = 20.0
PLAIN, ON_CPU = Recipe(), Work()


class SupernetTraining(Resumable):
    """A supernet, its optimizer, and the number of steps done, of `steps` in all.

    `batch` are the windows that a network reads in a step, those of all `workers` together. `sorted` tells
    what was sorted before the present phase.

    Raises:
        SpaceError: the space forbids all architectures of a phase.
    """

    def __init__(
        self,
        space: Space,
        task: Task,
        *,
        steps: int,
        seed: int,
        batch: int,
        recipe: Recipe = PLAIN,
        work: Work = ON_CPU,
        workers: Workers = ALONE,
    ) -> None:
        self.space, self.task, self.steps, self.seed, self.batch = space, task, steps, seed, batch
        self.recipe, self.work, self.workers = recipe, work, workers
        self.supernet = Supernet(space, seed=seed, device=work.device)
        self.parameters = self.supernet.weights
        self.optimizer = adamw(self.supernet.weights, self.supernet.rates)
        self.sorted: list[Sorted] = []
        self._parts = [narrowed(space, phase.varies) for phase in recipe.phases]
        self._visits = [self._sandwich(part) for part in self._parts]
        self._compiled = Compiled(work.compile_after)

    @property
    def trajectory(self) -> Trajectory:
        """What names this training among all others; the horizon decides the learning rate."""
        about: dict[str, Any] = {"space": to_json(self.space.root), "recipe": self.recipe.to_plain()}
        if not self.recipe.soft:
            about["batches"] = self.recipe.networks  # before, one without `soft` read one batch, too
        return Trajectory(
            json.dumps(about),
            self.supernet.rates,
            self.task.digest,
            self.seed,
            self.batch,
            (*BETAS, WEIGHT_DECAY, CLIP, WARM_UP, float(self.steps)),
        )

    @property
    def phase(self) -> Phase:
        """The phase of the next step."""
        return self.recipe.phases[self._phase]

    @property
    def progress(self) -> dict[str, Any]:
        """How far the training is, for whoever reads a checkpoint."""
        return {"phase": self.phase.name, "steps": self.steps}

    def learn(self) -> tuple[float, float]:
        """One step: the losses of its first and second subnet (the largest and, as a rule, the smallest), in
        the task's unit.

        Raises:
            EvaluationFailed: a loss is not finite.
        """
        self._enter_phase()
        subnets = [self.supernet.subnet(spec) for spec in self._visits[self._phase].of(self.step)]
        self._set_rates()
        self.supernet.zero_grad()
        sixteen, losses = self.supernet.at_sixteen(), list[Tensor]()
        for number, readers in enumerate([subnets] if self.recipe.soft else [[each] for each in subnets]):
            found = torch.zeros(2, len(readers), device=self.work.device)
            for tokens, targets, share in self._pieces(number):
                found += share * torch.stack(self._read(readers, sixteen, tokens, targets, share), 1)
            losses.append(found)
        read = torch.cat(losses, 1)
        grads = [weight.grad for weight in self.supernet.parameters() if weight.grad is not None]
        self.workers.add_up([*grads, read])
        hard, whole = read.tolist()
        for loss in whole:
            if not math.isfinite(loss):
                raise EvaluationFailed(f"the supernet's loss is {loss} at step {self.step + 1}")
        nn.utils.clip_grad_norm_(self.supernet.parameters(), CLIP)
        self.optimizer.step()
        self.step += 1
        return hard[0] / self.task.nats, hard[min(1, len(hard) - 1)] / self.task.nats

    @property
    def _phase(self) -> int:
        return phase_at(self.recipe.phases, self.steps, self.step)

    def _sandwich(self, part: Space) -> Sandwich:
        """The subnets of a phase; favoured genotypes are of the whole space, and wait until it opens."""
        favoured = self.recipe.genotypes if part is self.space else ()
        visits = Sandwich(part, self.seed, self.recipe.networks, favoured, self.recipe.favour)
        try:
            visits.of(0)
        except SpaceError as error:
            if part is self.space:
                raise
            raise SpaceError(f"{error}; leave this phase out, or train without phases") from None
        return visits

    def _enter_phase(self) -> None:
        """At the first step of a phase, sort what it will cut and the phases before did not."""
        phase, begins = self._phase, starts(self.recipe.phases, self.steps)
        if self.recipe.sort == "none" or self.step == 0 or self.step != begins[phase]:
            return
        trained = max(i for i in range(phase) if begins[i] < self.step)
        with torch.no_grad():
            self.sorted = sort_by_importance(
                self.supernet,
                self._parts[trained].root,
                self._parts[phase].root,
                moments=self._moments,
                effects=self._effect if self.recipe.sort == "effect" else None,
            )

    def _moments(self, key: str) -> list[Tensor]:
        """The optimizer's tensors that have the shape of the parameter of this key."""
        weight = self.supernet.weights[key]
        state = self.optimizer.state.get(weight, {})
        return [value for value in state.values() if torch.is_tensor(value) and value.shape == weight.shape]

    def _effect(self, key: str) -> Tensor | None:
        """The weights squared times the mean of their squared gradients, as Adam remembers it."""
        weight = self.supernet.weights[key]
        state = self.optimizer.state.get(weight)
        return weight.detach().square() * state["exp_avg_sq"] if state else None

    def _pieces(self, number: int) -> Iterator[tuple[Tensor, Tensor, float]]:
        """This worker's rows of a batch, in pieces, with their share of all tokens that are judged.

        `number` counts the batches of a step.
        """
        batches = 1 if self.recipe.soft else self.recipe.networks
        whole = self.task.train_batch(self.step * batches + number, self.seed, self.batch)
        judged = int((whole[1] != IGNORED).sum())
        rows = (self.workers.rows(part).chunk(self.work.pieces) for part in whole)
        for tokens, targets in zip(*rows, strict=True):
            share = int((targets != IGNORED).sum()) / judged
            yield tokens.to(self.work.device), targets.to(self.work.device), share

    def _read(
        self, subnets: list[Subnet], sixteen: Weights, tokens: Tensor, targets: Tensor, share: float
    ) -> list[Tensor]:
        """Add the gradients of all subnets; the text loss of each and all that it minimises, in nats [2]."""
        teacher, found = None, []
        soft = self.recipe.soft * self.step / self.steps
        for subnet in subnets:
            leaves, losses = subnet.leaves(sixteen), list[Tensor]()
            logits = self._logits(subnet, tokens, subnet.rounded(leaves, sixteen), losses)
            hard = loss = token_loss(logits, targets)
            if teacher is not None:
                loss = (1 - soft) * hard + soft * _divergence(logits, teacher, targets)
            whole = sum(losses, start=loss)
            (share * whole).backward()
            self.supernet.accumulate(subnet, leaves)
            if subnet is subnets[0] and soft:
                teacher = logits.detach().log_softmax(-1)
            found.append(torch.stack((hard.detach(), whole.detach())))
        return found

    def _logits(
        self, subnet: Subnet, tokens: Tensor, weights: dict[str, Tensor], losses: list[Tensor]
    ) -> Tensor:
        """Logits in float32, computed as the recipe and the work ask."""
        low = self.recipe.precision == "bfloat16"
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=low):
            run = self._compiled.of(subnet)
            if run is None:
                logits = subnet(tokens, weights, recompute=self.work.recompute, losses=losses)
            else:
                logits, found = run(weights, tokens)
                losses += found
        return logits.float()

    def _set_rates(self) -> None:
        step = self.step + 1
        factor = min(step / WARM_UP, 1 - (1 - self.recipe.floor) * step / self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate * group["peak"] * factor


@dataclass(frozen=True)
class FromSupernet(Evaluator):
    """Scores an architecture with the weights that it shares with all others, rounded to its bits.

    `space_json` is the tree of the space; `folder` holds the supernet's checkpoint. Plain values, so that Ray
    can ship it: a worker opens the checkpoint when it is first asked. `open_supernet` makes one from a folder
    alone.
    """

    name: ClassVar[str] = "supernet"

    task: Task
    space_json: str
    folder: str
    steps: int
    seed: int = 0
    batch: int = 16
    recipe: Recipe = PLAIN
    work: Work = ON_CPU

    @property
    def unit(self) -> str:
        """That of the task's scores."""
        return self.task.judged_in

    def train(
        self, on_step: Callable[[int, float], None] | None = None, *, workers: Workers = ALONE
    ) -> dict[str, Any]:
        """Train the supernet, or go on from its checkpoint; how it went, as plain values.

        `on_step` hears the number of each step and the loss of the largest subnet. Of several workers the
        first one writes.

        Raises:
            EvaluationFailed: a loss is not finite.
            SpaceError: the space forbids all architectures of a phase.
        """
        training, folder = self._training(workers), Path(self.folder)
        checkpoints.resume(training, folder, self.steps)
        curve = read_curve(folder, training.step)
        saved = began = time.monotonic()
        while training.step < self.steps:
            largest, smallest = training.learn()
            curve["loss"].append([training.step, round(largest, 4), round(smallest, 4)])
            if on_step is not None:
                on_step(training.step, largest)
            if time.monotonic() - saved > SAVE_SECONDS or training.step == self.steps:
                saved = time.monotonic()
                curve["seconds"] += round(saved - began, 3)
                began = saved
                if workers.rank == 0:
                    _write_curve(folder, curve)
                    checkpoints.save(training, folder)
        return {"steps": self.steps, **curve}

    def score(self, spec: Decoder, steps: int, seed: int) -> Score:
        """The score on the validation windows; the training is the supernet's own, whatever `steps` says."""
        subnet = self.supernet.subnet(spec)
        with torch.no_grad():
            weights = subnet.weights()

        def call(tokens: Tensor, *, segment: int | None = None) -> Tensor:
            return subnet(tokens, weights, segment=segment)

        found = window_losses(call, self.task, segment=state_segment(spec), device=self.work.device)
        return Score.of(found.tolist())

    @property
    def supernet(self) -> Supernet:
        """The trained supernet, opened once per process.

        Raises:
            EvaluationFailed: there is no finished checkpoint.
        """
        return _opened(self)

    def _training(self, workers: Workers = ALONE) -> SupernetTraining:
        return SupernetTraining(
            Space(from_json(self.space_json), name="supernet"),
            self.task,
            steps=self.steps,
            seed=self.seed,
            batch=self.batch,
            recipe=self.recipe,
            work=self.work,
            workers=workers,
        )


@lru_cache(maxsize=2)
def _opened(evaluator: FromSupernet) -> Supernet:
    training = evaluator._training()
    if checkpoints.resume(training, Path(evaluator.folder), evaluator.steps) < evaluator.steps:
        raise EvaluationFailed(f"{evaluator.folder} holds no supernet trained for {evaluator.steps} steps")
    return training.supernet


def _divergence(logits: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
    """Kullback-Leibler divergence in nats of the teacher's predictions from these, where it is judged.

    `teacher` are logarithms of probabilities.
    """
    each = F.kl_div(logits.log_softmax(-1), teacher, reduction="none", log_target=True)
    judged = targets != IGNORED
    return (each.sum(-1) * judged).sum() / judged.sum()


def read_curve(folder: Path, step: int) -> dict[str, Any]:
    """The losses up to `step`, and the seconds spent so far."""
    try:
        curve: dict[str, Any] = json.loads((folder / CURVE).read_text())
    except FileNotFoundError:
        return {"seconds": 0.0, "loss": []}
    return {"seconds": curve["seconds"], "loss": [entry for entry in curve["loss"] if entry[0] <= step]}


def _write_curve(folder: Path, curve: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f"{CURVE}.new"
    new.write_text(json.dumps(curve))
    new.replace(folder / CURVE)
