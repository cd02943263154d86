"""Training from scratch: the honest score, against which every cheaper one is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import ClassVar

import torch

from evaluators.scoring.base import Evaluator, Score
from evaluators.scoring.windows import state_segment, window_losses
from evaluators.tasks.base import Task
from evaluators.training.checkpoints import held_step, read_looks, remove, resume, write_looks
from evaluators.training.fit import fit
from evaluators.training.network_training import NetworkTraining, layer_figures, rounded_model
from evaluators.training.recipe import DEFAULT, Recipe
from foundation.errors import IllegalArchitecture
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model, build


@dataclass(frozen=True)
class FromScratch(Evaluator):
    """Each candidate is trained by itself, and judged with its weights rounded as they would be exported.

    With a folder of `checkpoints`, a candidate that comes again with more steps continues where it was, and
    ends with the same weights as if it had never stopped. Where the schedule of the recipe has a horizon, it
    goes on from the steps that do not depend on it: those before a cool-down, or none. With a `horizon` every
    training is one of so many steps, and a score after fewer is a look at it on its way: no step is done
    twice. `looks` are steps on the way after which the score is noted as well. `threads` is for the CPU; None
    leaves it as it is. With steps of its `own_steps`, those that are asked for do not matter.
    """

    name: ClassVar[str] = "scratch"

    task: Task
    checkpoints: str | None = None
    batch: int = 16
    recipe: Recipe = DEFAULT
    device: str = "cpu"
    threads: int | None = None
    own_steps: int | None = None
    horizon: int | None = None
    looks: tuple[int, ...] = ()

    @property
    def unit(self) -> str:
        """That of the task's scores."""
        return self.task.score_unit

    def score(
        self,
        spec: Decoder,
        steps: int,
        seed: int,
        on_step: Callable[[int, float], None] | None = None,
    ) -> Score:
        """The score on the validation windows after `steps` steps, and the figures of its layers."""
        with _threads(self.threads):
            training, curve = self._looked_at(spec, steps, seed, on_step)
            return Score.of(self._losses(training), layer_figures(training), curve)

    def trained_model(
        self,
        spec: Decoder,
        steps: int,
        seed: int,
        on_step: Callable[[int, float], None] | None = None,
    ) -> Model:
        """The model after `steps` steps, its weights rounded to their layers' bits."""
        with _threads(self.threads):
            return rounded_model(self._looked_at(spec, steps, seed, on_step)[0].model)

    def steps_left(self, spec: Decoder, steps: int, seed: int) -> int:
        """Steps that `trained_model` has to train: those after the last checkpoint."""
        most = self.own_steps or steps
        if self.checkpoints is None:
            return most
        training = self._training(build(spec, seed=seed, device="meta"), steps, seed)
        return most - held_step(training, Path(self.checkpoints), most)

    def _looked_at(
        self,
        spec: Decoder,
        steps: int,
        seed: int,
        on_step: Callable[[int, float], None] | None,
    ) -> tuple[NetworkTraining, tuple[tuple[int, float], ...]]:
        """The training after `steps` steps, and its mean scores after those of the looks before."""
        if spec.vocab < self.task.vocab:
            raise IllegalArchitecture(
                f"vocab is {spec.vocab}, and task {self.task.name} needs {self.task.vocab}"
            )
        training = self._training(build(spec, seed=seed, device=self.device), steps, seed)
        folder = Path(self.checkpoints) if self.checkpoints else None
        looks = [] if self.own_steps else [step for step in self.looks if step < steps]
        if looks and folder is not None:
            resume(training, folder, steps)
        noted = read_looks(folder, training) if looks else {}
        for step in looks:
            if step >= training.step and step not in noted:
                fit(training, folder=folder, until=step, on_step=on_step)
                score = fmean(self._losses(training))
                if isfinite(score):
                    noted[step] = score
                    write_looks(folder, training, noted)
        fit(training, folder=folder, until=self.own_steps or steps, on_step=on_step)
        return training, tuple((step, noted[step]) for step in looks if step in noted)

    def _losses(self, training: NetworkTraining) -> list[float]:
        """Of each validation window, with the weights rounded to their layers' bits."""
        segment, model = state_segment(training.model.spec), rounded_model(training.model)
        losses: list[float] = window_losses(model, self.task, segment=segment, device=self.device).tolist()
        return losses

    def _training(self, model: Model, steps: int, seed: int) -> NetworkTraining:
        return NetworkTraining(
            model,
            self.task,
            steps=self.own_steps or max(steps, self.horizon or 0),
            seed=seed,
            batch=self.batch,
            recipe=self.recipe.on(self.device),
        )

    def forget(self, spec: Decoder, steps: int, seed: int) -> None:
        """Remove the checkpoints of an architecture up to a step, which will not be trained further."""
        if self.checkpoints is not None:
            training = self._training(build(spec, seed=seed, device="meta"), steps, seed)
            remove(training, Path(self.checkpoints), self.own_steps or steps)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Use `count` CPU threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
