"""What a recipe needs of an optimizer: one file of this folder each, around a `torch.optim.Optimizer`.

Every parameter has a peak rate of its own, which the schedule scales step by step. Only matrices and
embeddings decay, as their roles tell (`search_spaces.network.scaling`). The state that is kept of a parameter
must be tensors by name, so that it goes through a checkpoint, and those of the parameter's shape must belong
to its entries one by one, so that they can be sorted with them.

A parameter shrinks by its rate times the decay in a step. Rates of matrices fall with the width beyond the
base; with `independent` decay the shrinking does not (in the spirit of Wortsman et al. 2023,
arXiv:2309.14322, section 3.2, who tune decay apart from the rate).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from foundation.components import Part
from foundation.registry import Registry
from foundation.settings import setting
from search_spaces.network.scaling import Role, scaled_rate

optimizers: Registry[type[Optimizer]] = Registry("optimizer", folder="evaluators.training.optimizers")


@dataclass(frozen=True, kw_only=True)
class Optimizer(Part):
    """Settings of an optimizer, which make one for parameters by name.

    With `elementwise` steps every entry of a parameter learns by itself, so parameters may be cut in pieces.
    """

    registry: ClassVar[Registry[type[Optimizer]]] = optimizers
    elementwise: ClassVar[bool] = True

    decay: float = setting(0.1, help="Weight decay of matrices; all else does not decay.", least=0, most=100)
    independent: bool = setting(
        False, help="Weight decay that does not fall with the width, as rates do beyond the base width."
    )

    @abstractmethod
    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimizer of parameter groups, each with its `lr` and `weight_decay`."""

    def make(
        self, parameters: Mapping[str, nn.Parameter], rates: Mapping[str, float], roles: Mapping[str, Role]
    ) -> torch.optim.Optimizer:
        """The optimizer of these parameters; `rates` are their peak rates, kept as `peak` of each group."""
        groups: dict[Any, list[nn.Parameter]] = {} if parameters else {(0.0, 0.0, None): []}
        for name, weight in parameters.items():
            role = roles[name]
            group = rates[name], self.decay_of(role), self.kind_of(weight, role)
            groups.setdefault(group, []).append(weight)
        return self.build(
            [
                {"params": weights, "peak": peak, "lr": peak, "weight_decay": decay, "kind": kind}
                for (peak, decay, kind), weights in groups.items()
            ]
        )

    def decay_of(self, role: Role) -> float:
        """The weight decay of a parameter, which its rate is multiplied with."""
        if not role.decays:
            return 0.0
        return self.decay / scaled_rate(1.0, role) if self.independent else self.decay

    def kind_of(self, weight: nn.Parameter, role: Role) -> Hashable:
        """What else tells the groups of parameters apart; kept as `kind` of each group."""
        return None

    def squared_gradients(self, state: Mapping[str, Any]) -> Tensor | None:
        """The running mean of a parameter's squared gradients in its state; None where none is kept."""
        return None

    @property
    def keeps_squared_gradients(self) -> bool:
        """Whether `squared_gradients` finds any."""
        return type(self).squared_gradients is not Optimizer.squared_gradients
