"""What a recipe needs of an optimizer: one file of this folder each, around a `torch.optim.Optimizer`.

Every parameter has a peak rate of its own, which the schedule scales step by step. Only matrices and
embeddings decay, as their roles tell (`search_spaces.network.scaling`). The state that is kept of a parameter
must be tensors by name, so that it goes through a checkpoint, and those of the parameter's shape must belong
to its entries one by one, so that they can be sorted with them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from foundation.components import Part
from foundation.registry import Registry
from foundation.settings import setting
from search_spaces.network.scaling import Role

optimizers: Registry[type[Optimizer]] = Registry("optimizer", folder="evaluators.training.optimizers")


@dataclass(frozen=True, kw_only=True)
class Optimizer(Part):
    """Settings of an optimizer, which make one for parameters by name."""

    registry: ClassVar[Registry[type[Optimizer]]] = optimizers

    decay: float = setting(0.1, help="Weight decay of matrices; all else does not decay.", least=0, most=100)

    @abstractmethod
    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimizer of parameter groups, each with its `lr` and `weight_decay`."""

    def make(
        self, parameters: Mapping[str, nn.Parameter], rates: Mapping[str, float], roles: Mapping[str, Role]
    ) -> torch.optim.Optimizer:
        """The optimizer of these parameters; `rates` are their peak rates, kept as `peak` of each group."""
        groups: dict[tuple[float, float], list[nn.Parameter]] = {} if parameters else {(0.0, 0.0): []}
        for name, weight in parameters.items():
            decay = self.decay if roles[name].decays else 0.0
            groups.setdefault((rates[name], decay), []).append(weight)
        return self.build(
            [
                {"params": weights, "peak": peak, "lr": peak, "weight_decay": decay}
                for (peak, decay), weights in groups.items()
            ]
        )

    def squared_gradients(self, state: Mapping[str, Any]) -> Tensor | None:
        """The running mean of a parameter's squared gradients in its state; None where none is kept."""
        return None

    @property
    def keeps_squared_gradients(self) -> bool:
        """Whether `squared_gradients` finds any."""
        return type(self).squared_gradients is not Optimizer.squared_gradients
