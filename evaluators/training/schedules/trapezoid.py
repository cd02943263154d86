"""Warm-up, a constant rate, then a cool-down over the last steps: a schedule whose horizon is chosen late.

    share = min(step / warm_up, fall(min(1, left / (n + 1))))

with left = steps - step + 1 and n the steps of the cool-down.

`fall(x)` goes from 1 at x = 1, the last step at the peak, to `floor` at x = 0, one step after the last:

    linear     floor + (1 - floor) x
    one_sqrt   floor + (1 - floor) (1 - sqrt(1 - x))

Zhai et al. 2022, arXiv:2106.04560, section 3.5; Hägele et al. 2024, arXiv:2405.18392, section 3, who find the
second form ahead of the first, and a cool-down of a fifth of the steps as good as a cosine of their number.
Up to the cool-down nothing depends on where the training ends: a longer one goes on from the last checkpoint
before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from evaluators.training.schedules.base import Schedule, schedules
from foundation.settings import MANY, setting


@schedules.add
@dataclass(frozen=True, kw_only=True)
class Trapezoid(Schedule):
    """min(1, step / warm_up, fall(steps left / (steps of the cool-down + 1)))."""

    name: ClassVar[str] = "trapezoid"

    cool_down: float = setting(0.2, help="Share of the steps in which the rate falls.", least=0, most=1)
    cool_down_steps: int | None = setting(
        None,
        help="Steps in which the rate falls, in the place of a share; none: the share.",
        least=0,
        most=MANY,
    )
    form: str = setting("one_sqrt", help="How the rate falls.", choices=("linear", "one_sqrt"))
    floor: float = setting(0.0, help="The share of the peak rate after the last step.", least=0, most=1)

    def shared(self, steps: int) -> int:
        """All steps before the cool-down."""
        fall = round(self.cool_down * steps) if self.cool_down_steps is None else self.cool_down_steps
        return max(0, steps - fall)

    def share(self, step: int, steps: int) -> float:
        """Falls from the peak to `floor` in the steps after `shared(steps)`."""
        left = min(1.0, (steps - step + 1) / (steps - self.shared(steps) + 1))
        fall = left if self.form == "linear" else 1 - math.sqrt(1 - left)
        return min(step / self.warm_up, self.floor + (1 - self.floor) * fall)
