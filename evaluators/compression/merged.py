"""What adaptations by few parameters have in common: they are merged into the weights.

The network computes with the merged weights at the bits of its layers while it learns, so it says then what
it will say when it is exported.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from evaluators.tasks.base import IGNORED, Task
from evaluators.training.losses import LateLosses
from evaluators.training.recipe import Recipe
from evaluators.training.trainable import Trainable, Trajectory, weights_digest
from search_spaces.language.serialization import to_json
from search_spaces.network.layer import AS_THEY_ARE, Parts
from search_spaces.network.model import Model
from search_spaces.network.scaling import ELEMENTWISE
from search_spaces.network.weight_formats import weight_bits

RATE = 9e-3
"""The rate of factors and norms: the best of 3e-3, 9e-3 and 24e-3 for a hybrid of width 64 at rank 8."""


class Course(TypedDict):
    """How long, on what batches and by which recipe it is learned."""

    steps: int
    seed: int
    batch: int
    recipe: Recipe


class Merged(Trainable):
    """The training of parameters that `starts` makes and `merged` puts into the weights of a model."""

    usual_rate: ClassVar[float] = RATE
    """The rate of what is learned, at a factor of 1."""

    def __init__(self, model: Model, task: Task, **course: Unpack[Course]) -> None:
        recipe = course["recipe"]
        self.model, self.task, self.seed, self.batch = model, task, course["seed"], course["batch"]
        self._weights = {name: weight.detach() for name, weight in model.named_parameters()}
        self._bits = weight_bits(model)
        parameters = self.starts()
        super().__init__(
            parameters,
            dict.fromkeys(parameters, self.usual_rate),
            dict.fromkeys(parameters, ELEMENTWISE),
            recipe,
            schedule=recipe.schedule,
            rate=recipe.rate,
            tokens=self.batch * task.length,
            steps=course["steps"],
        )
        self.origin = weights_digest(self._weights)

    @abstractmethod
    def starts(self) -> dict[str, nn.Parameter]:
        """What is learned, as it begins."""

    @property
    @abstractmethod
    def how(self) -> Mapping[str, Any]:
        """What names this kind of adaptation, as plain values."""

    @abstractmethod
    def merged(self) -> dict[str, Tensor]:
        """All weights by name, at the bits of their layers; gradients flow into what is learned."""

    @property
    def trajectory(self) -> Trajectory:
        """What names this training among all others."""
        recipe = {**self.recipe.of_networks(), **self.how}
        spec, task = to_json(self.model.spec), self.task.digest
        return Trajectory(spec, self.rates, task, self.seed, self.batch, recipe, self.steps, self.origin)

    def gradients(self) -> LateLosses:
        """Of the next batch: cross-entropy and what the layers add to it."""
        return self.backward(self.merged())

    def backward(self, weights: Mapping[str, Tensor], parts: Parts = AS_THEY_ARE) -> LateLosses:
        """The losses of the next batch with these weights, and their gradients; `parts` compute sublayers."""
        device = self.model.embedding.device
        tokens, targets = self.task.train_batch_on(device, self.step, self.seed, self.batch)
        auxiliary: list[Tensor] = []
        with self.low_precision(device):
            given, how = (tokens, auxiliary), {"parts": parts}
            said = functional_call(self.model, dict(weights), given, how, tie_weights=False)
        judged = targets != IGNORED
        text = F.cross_entropy(said[judged].float(), targets[judged])
        whole = sum(auxiliary, start=text)
        whole.backward()
        return LateLosses(torch.stack((text, whole)).detach(), ("the training loss",), self.task.nats)

    @torch.no_grad()
    def merge(self) -> Model:
        """The model with what was learned in its weights."""
        for name, weight in self.merged().items():
            self._weights[name].copy_(weight)
        return self.model
