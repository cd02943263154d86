"""The supernet as an evaluator: after one training, a score for any architecture of its space in a moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from evaluators.scoring.base import Evaluator, Score
from evaluators.scoring.windows import state_segment, window_losses
from evaluators.supernet.training import ON_CPU, SupernetTraining, spec_of
from evaluators.tasks.base import Task
from evaluators.training import checkpoints
from evaluators.training.execution import Execution
from evaluators.training.fit import fit
from evaluators.training.process_group import SINGLE_PROCESS, ProcessGroup
from evaluators.training.recipe import DEFAULT, Recipe
from foundation.errors import EvaluationFailed
from search_spaces.language.serialization import from_json
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder
from search_spaces.supernet import Subnet, Supernet, Weights

CURVE = "curve.json"
"""The file of a supernet's folder with the losses by step."""

OPEN = 4
"""Supernets that a process keeps open: a study may have one for each of its tasks."""


@dataclass(frozen=True)
class FromSupernet(Evaluator):
    """Scores an architecture with the weights that it shares with all others, rounded to its bits.

    `space_json` is the tree of the space, and `space_name` what messages call it; `folder` holds the
    supernet's checkpoint. Plain values, so that Ray can ship it: a worker opens the checkpoint when it is
    first asked. Constraints of a space are code and no plain values: only `train` needs them. `open_supernet`
    makes one from a folder alone.
    """

    name: ClassVar[str] = "supernet"

    task: Task
    space_json: str
    folder: str
    steps: int
    seed: int = 0
    batch: int = 16
    recipe: Recipe = DEFAULT
    execution: Execution = ON_CPU
    space_name: str = "space"

    @property
    def unit(self) -> str:
        """That of the task's scores."""
        return self.task.score_unit

    @property
    def work(self) -> tuple[str, int]:
        """What `train` does, and how many reports it makes."""
        return "training the supernet", self.steps

    def told(self, loss: float) -> str:
        """What is said of a step with this loss."""
        return f"largest {loss:.3f} {self.task.unit}"

    def train(
        self,
        on_step: Callable[[int, float], None] | None = None,
        *,
        open_space: Callable[[], Space] | None = None,
        process_group: ProcessGroup = SINGLE_PROCESS,
        save_seconds: float | None = None,
        training: SupernetTraining | None = None,
    ) -> dict[str, Any]:
        """Train the supernet, or continue from its checkpoint: its `steps`, `seconds`, and `loss` by step.

        `open_space` gives the space with its constraints; without it, the training visits architectures that
        a constraint forbids. A `training` that is there already is taken. `on_step` is called with the number
        of each step and the loss of the largest subnet. Of several processes the first one writes.

        Raises:
            EvaluationFailed: a loss is not finite.
            SpaceError: the space forbids all architectures of a phase.
        """
        folder = Path(self.folder)
        if training is None:
            training = self.training(self._space() if open_space is None else open_space(), process_group)
        curve = fit(
            training,
            folder=folder,
            on_step=on_step,
            curve_file=folder / CURVE,
            writes=process_group.rank == 0,
            save_seconds=save_seconds,
        )
        return {"steps": self.steps, **curve.to_plain()}

    def verify(self) -> None:
        """Make sure that the folder holds this supernet, trained to its end and undamaged; builds nothing.

        Raises:
            NoFile: there is none.
            DamagedCheckpoint: it is damaged, or that of another training.
        """
        recipe = self.recipe.on(self.execution.device)
        expected = trained_as(self.space_json, self.task.digest, self.seed, self.batch, recipe)
        checkpoints.verify(Path(self.folder), self.steps, {**expected, "steps": self.steps})

    def score(self, spec: Decoder, steps: int, seed: int) -> Score:
        """The score on the validation windows; the training is the supernet's own, whatever `steps` is."""
        subnet = self.supernet.subnet(spec)
        with torch.no_grad():
            return self._scored(subnet, subnet.weights())

    def _scored(self, subnet: Subnet, weights: Weights) -> Score:
        """The score of a subnet that computes with these weights."""

        def network(tokens: Tensor, *, segment: int | None = None) -> Tensor:
            return subnet(tokens, weights, segment=segment)

        segment, device = state_segment(subnet.spec), self.execution.device
        return Score.of(window_losses(network, self.task, segment=segment, device=device).tolist())

    @property
    def supernet(self) -> Supernet:
        """The trained supernet, opened once per process.

        Raises:
            EvaluationFailed: there is no finished checkpoint, or none that is whole.
        """
        return _opened(self)

    def _space(self) -> Space:
        """The tree of the space, without constraints."""
        return Space(from_json(self.space_json), name=self.space_name)

    def training(self, space: Space, process_group: ProcessGroup = SINGLE_PROCESS) -> SupernetTraining:
        """The training at its start; nothing is read or written.

        Raises:
            SpaceError: the space forbids all architectures of a phase, or has too small a vocabulary.
        """
        self.task.check_vocabulary(space)
        return SupernetTraining(
            space,
            self.task,
            steps=self.steps,
            seed=self.seed,
            batch=self.batch,
            recipe=self.recipe,
            execution=self.execution,
            process_group=process_group,
        )


def trained_as(space_json: str, task: str, seed: int, batch: int, recipe: Recipe) -> dict[str, Any]:
    """What the trajectory of a supernet says that can be known without building it; `task` is its digest."""
    return {
        "spec": spec_of(space_json),
        "task": task,
        "seed": seed,
        "batch": batch,
        "recipe": recipe.of_supernets(),
        "origin": "",
    }


@lru_cache(maxsize=OPEN)
def _opened(evaluator: FromSupernet) -> Supernet:
    training = evaluator.training(evaluator._space())
    if checkpoints.resume(training, Path(evaluator.folder), evaluator.steps) < evaluator.steps:
        told = f"{evaluator.folder} holds no supernet trained for {evaluator.steps} steps"
        if any(Path(evaluator.folder).glob(f"*-{evaluator.steps}.safetensors")):
            told += (
                ", but one of another training (of other settings, or by another version of nas): train it"
                " again, in another folder or by a study of another name, or use the version that trained it"
            )
        else:
            told += (
                ": it was removed, or not trained to the end; a search that has trials left trains it again"
            )
        raise EvaluationFailed(told)
    return training.supernet
