"""What a recipe needs of a learning rate schedule: one file of this folder each."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from foundation.components import Part
from foundation.registry import Registry
from foundation.settings import MANY, setting

schedules: Registry[type[Schedule]] = Registry("schedule", folder="evaluators.training.schedules")


@dataclass(frozen=True, kw_only=True)
class Schedule(Part):
    """The learning rate by step, as a share of its peak.

    Without `has_horizon` the share does not depend on where the training ends: a training of more steps
    continues one of fewer steps. With it, they may still have their first steps in common (`shared`).
    """

    registry: ClassVar[Registry[type[Schedule]]] = schedules
    has_horizon: ClassVar[bool] = True

    warm_up: int = setting(20, help="Steps in which the rate grows to its peak.", least=1, most=MANY)

    def shared(self, steps: int) -> int:
        """The first steps of a training of `steps` in which all longer ones have the same share."""
        return 0 if self.has_horizon else steps

    @abstractmethod
    def share(self, step: int, steps: int) -> float:
        """The share of the peak rate, within [0, 1], at a step counted from 1, of `steps`."""
