"""Warm-up, then a linear fall to a share of the peak at the last step.

share = min(step / warm_up, 1 - (1 - floor) step / steps)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from evaluators.training.schedules.base import Schedule, schedules
from foundation.settings import setting


@schedules.add
@dataclass(frozen=True, kw_only=True)
class Linear(Schedule):
    """min(step / warm_up, 1 - (1 - floor) step / steps)."""

    name: ClassVar[str] = "linear"

    floor: float = setting(0.1, help="The share of the peak rate at the last step.", least=0, most=1)

    def share(self, step: int, steps: int) -> float:
        """Falls to `floor` at step `steps`."""
        return min(step / self.warm_up, 1 - (1 - self.floor) * step / steps)
