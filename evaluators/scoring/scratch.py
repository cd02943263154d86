"""Training from scratch: the honest score, against which every cheaper one is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from evaluators.scoring.base import Evaluator, Score
from evaluators.scoring.windows import state_segment, window_losses
from evaluators.tasks.base import Task
from evaluators.training.checkpoints import remove
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
    twice. `threads` is for the CPU; None leaves it as it is. With steps of its `own_steps`, those that are
    asked for do not matter.
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
            training = self._trained(spec, steps, seed, on_step)
            model = rounded_model(training.model)
            losses = window_losses(model, self.task, segment=state_segment(spec), device=self.device)
            return Score.of(losses.tolist(), layer_figures(training))

    def trained_model(
        self,
        spec: Decoder,
        steps: int,
        seed: int,
        on_step: Callable[[int, float], None] | None = None,
    ) -> Model:
        """The model after `steps` steps, its weights rounded to their layers' bits."""
        with _threads(self.threads):
            return rounded_model(self._trained(spec, steps, seed, on_step).model)

    def _trained(
        self,
        spec: Decoder,
        steps: int,
        seed: int,
        on_step: Callable[[int, float], None] | None,
    ) -> NetworkTraining:
        if spec.vocab < self.task.vocab:
            raise IllegalArchitecture(
                f"vocab is {spec.vocab}, and task {self.task.name} needs {self.task.vocab}"
            )
        training = self._training(build(spec, seed=seed, device=self.device), steps, seed)
        folder = Path(self.checkpoints) if self.checkpoints else None
        fit(training, folder=folder, until=self.own_steps or steps, on_step=on_step)
        return training

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
