"""A training as something that can be stopped: weights and optimizer state as flat tensors, and a step."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Trajectory:
    """Everything that decides how a training goes: two trainings of equal trajectories have equal weights.

    `spec` is the JSON of what is trained; `recipe` are the numbers of the training's recipe.
    """

    spec: str
    rates: Mapping[str, float]
    task: str
    seed: int
    batch: int
    recipe: tuple[float, ...]

    @property
    def digest(self) -> str:
        """16 hex digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


class Resumable(ABC):
    """Parameters by name, their optimizer, and the number of steps done."""

    parameters: Mapping[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    step: int = 0

    @property
    @abstractmethod
    def trajectory(self) -> Trajectory:
        """What names this training among all others."""

    @property
    def progress(self) -> dict[str, Any]:
        """What a reader of the checkpoint should know of how far it is, beside the step; decides nothing."""
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """Weights and optimizer state by flat names; they are not copies."""
        flat = {f"weight/{name}": weight.detach() for name, weight in self.parameters.items()}
        for name, weight in self.parameters.items():
            for key, value in self.optimizer.state[weight].items():
                flat[f"{key}/{name}"] = value
        return flat

    def fits(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether these tensors hold the weights of what is trained here."""
        shapes = {name: t.shape for name, t in tensors.items() if name.startswith("weight/")}
        return shapes == {f"weight/{name}": weight.shape for name, weight in self.parameters.items()}

    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Go on from what `tensors` said after `step` steps."""
        self.step = step
        self.optimizer.state.clear()
        for flat, tensor in tensors.items():
            key, _, name = flat.partition("/")
            weight = self.parameters[name]
            if key == "weight":
                weight.data.copy_(tensor)
            else:
                self.optimizer.state[weight][key] = tensor.to(weight.device, copy=True)
