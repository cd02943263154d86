"""Warm-up, peak, then a fall with the square root of the step: a schedule without a horizon.

    share = min(1, step / warm_up, sqrt(constant / step))

Vaswani et al. 2017, arXiv:1706.03762, section 5.3, with a stretch at the peak.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from evaluators.training.schedules.base import Schedule, schedules
from foundation.settings import MANY, setting


@schedules.add
@dataclass(frozen=True, kw_only=True)
class InverseSqrt(Schedule):
    """min(1, step / warm_up, sqrt(constant / step))."""

    name: ClassVar[str] = "inverse_sqrt"
    has_horizon: ClassVar[bool] = False

    constant: int = setting(100, help="The last step at the peak rate.", least=1, most=MANY)

    def share(self, step: int, steps: int) -> float:
        """Whatever the number of steps."""
        return min(1.0, step / self.warm_up, math.sqrt(self.constant / step))
