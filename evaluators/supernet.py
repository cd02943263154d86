"""The supernet as an evaluator: one training for all architectures, then a score for any of them in a moment.

Training follows the sandwich rule (`evaluators.sandwich`) with in-place distillation: the largest subnet of a
step learns from the text; the others learn half from the text and half from what the largest one predicts
(Yu et al. 2020, arXiv:2003.11142). Weights are rounded to the bits of the layers, gradients pass straight
through. The learning rate is the blocks' own, warmed up, then falling linearly to a tenth.

The checkpoint holds weights and optimizer state; a training that was killed goes on from it to the same loss
curve, because every step's chance comes from (seed, step).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluators import checkpoints
from evaluators.base import Evaluator, Score
from evaluators.resumable import Resumable, Trajectory
from evaluators.sandwich import sandwich
from evaluators.tasks.base import IGNORED, Task
from evaluators.training import (
    BETAS,
    CLIP,
    WARM_UP,
    WEIGHT_DECAY,
    adamw,
    state_segment,
    token_loss,
    window_losses,
)
from search_spaces.decoder import Decoder
from search_spaces.errors import EvaluationFailed
from search_spaces.serialise import from_json, to_json
from search_spaces.space import Space
from search_spaces.supernet import Subnet, Supernet

CURVE = "curve.json"
FLOOR = 0.1
SOFT = 0.5
"""The share of distillation in the loss of all but the largest subnet."""

SAVE_SECONDS = 20.0


class SupernetTraining(Resumable):
    """A supernet, its optimizer, and the number of steps done, of `steps` in all."""

    def __init__(self, space: Space, task: Task, *, steps: int, seed: int, batch: int) -> None:
        self.space, self.task, self.steps, self.seed, self.batch = space, task, steps, seed, batch
        self.supernet = Supernet(space, seed=seed)
        self.parameters = self.supernet.weights
        self.optimizer = adamw(self.supernet.weights, self.supernet.rates)

    @property
    def trajectory(self) -> Trajectory:
        """What names this training among all others; the horizon decides the learning rate."""
        return Trajectory(
            to_json(self.space.root),
            self.supernet.rates,
            self.task.digest,
            self.seed,
            self.batch,
            (*BETAS, WEIGHT_DECAY, CLIP, WARM_UP, FLOOR, SOFT, float(self.steps)),
        )

    def learn(self) -> tuple[float, float]:
        """One step: the losses of the largest and of the smallest subnet, in the task's unit.

        Raises:
            EvaluationFailed: a loss is not finite.
        """
        tokens, targets = self.task.train_batch(self.step, self.seed, self.batch)
        subnets = [self.supernet.subnet(s) for s in sandwich(self.space, Random(f"{self.seed}/{self.step}"))]
        self._set_rates()
        self.supernet.zero_grad()
        teacher, found = None, []
        for subnet in subnets:
            hard, logits = self._backward(subnet, tokens, targets, teacher)
            teacher = logits if teacher is None else teacher
            found.append(hard / self.task.nats)
        nn.utils.clip_grad_norm_(self.supernet.parameters(), CLIP)
        self.optimizer.step()
        self.step += 1
        return found[0], found[1]

    def _backward(
        self, subnet: Subnet, tokens: Tensor, targets: Tensor, teacher: Tensor | None
    ) -> tuple[float, Tensor]:
        """Add a subnet's gradients; its loss on the text in nats, and its logits."""
        leaves, losses = subnet.leaves(), list[Tensor]()
        logits = subnet(tokens, subnet.rounded(leaves), losses=losses)
        hard = token_loss(logits, targets)
        loss = hard if teacher is None else (1 - SOFT) * hard + SOFT * _divergence(logits, teacher, targets)
        whole = sum(losses, start=loss)
        if not math.isfinite(whole.item()):
            raise EvaluationFailed(f"the supernet's loss is {whole.item()} at step {self.step + 1}")
        whole.backward()
        self.supernet.accumulate(subnet, leaves)
        return hard.item(), logits.detach()

    def _set_rates(self) -> None:
        step = self.step + 1
        factor = min(step / WARM_UP, 1 - (1 - FLOOR) * step / self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor


@dataclass(frozen=True)
class FromSupernet(Evaluator):
    """Scores an architecture with the weights that it shares with all others, rounded to its bits.

    `space_json` is the tree of the space; `folder` holds the supernet's checkpoint. Plain values, so that Ray
    can ship it: a worker opens the checkpoint when it is first asked.
    """

    name: ClassVar[str] = "supernet"

    task: Task
    space_json: str
    folder: str
    steps: int
    seed: int = 0
    batch: int = 16

    @property
    def unit(self) -> str:
        """The task's unit."""
        return self.task.unit

    def train(self, on_step: Callable[[int, float], None] | None = None) -> dict[str, Any]:
        """Train the supernet, or go on from its checkpoint; how it went, as plain values.

        `on_step` hears the number of each step and the loss of the largest subnet.

        Raises:
            EvaluationFailed: a loss is not finite.
        """
        training, folder = self._training(), Path(self.folder)
        checkpoints.resume(training, folder, self.steps)
        curve = _read_curve(folder, training.step)
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

        return Score.of(window_losses(call, self.task, segment=state_segment(spec)).tolist())

    @property
    def supernet(self) -> Supernet:
        """The trained supernet, opened once per process.

        Raises:
            EvaluationFailed: there is no finished checkpoint.
        """
        return _opened(self)

    def _training(self) -> SupernetTraining:
        space = Space(from_json(self.space_json), name="supernet")
        return SupernetTraining(space, self.task, steps=self.steps, seed=self.seed, batch=self.batch)


@lru_cache(maxsize=2)
def _opened(evaluator: FromSupernet) -> Supernet:
    training = evaluator._training()
    if checkpoints.resume(training, Path(evaluator.folder), evaluator.steps) < evaluator.steps:
        raise EvaluationFailed(f"{evaluator.folder} holds no supernet trained for {evaluator.steps} steps")
    return training.supernet


def _divergence(logits: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
    """Kullback-Leibler divergence in nats of the teacher's predictions from these, where it is judged."""
    each = F.kl_div(logits.log_softmax(-1), teacher.log_softmax(-1), reduction="none", log_target=True)
    judged = targets != IGNORED
    return (each.sum(-1) * judged).sum() / judged.sum()


def _read_curve(folder: Path, step: int) -> dict[str, Any]:
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
