"""Every candidate is trained to the end: when trainings are short, or a supernet scores the candidates."""

from __future__ import annotations

from nas.schedulers.base import Beginning, Ladder, Scheduler, schedulers
from nas.study.trial import Trial


@schedulers.add
class Full(Scheduler):
    """One rung, a whole training; the cost is candidates times steps."""

    name = "full"

    def begin(self) -> Beginning:
        """A whole training."""
        return Beginning(self.ladder.full)

    def tell(self, trial: Trial) -> None:
        """Nothing depends on it, and every score is that of a whole training."""

    @classmethod
    def cost(cls, ladder: Ladder, candidates: int) -> float:
        """All of them in full."""
        return float(candidates * ladder.full)


def everyone_in_full(steps: int) -> Full:
    """Trains every candidate for so many steps."""
    return Full(Ladder((steps,)), trials=0, point_of=lambda trial: ())
