"""Halving by what learning curves promise: when trainings are long and smooth, and candidates are few.

As `halving`, but a rung promotes by the scores that its candidates are predicted to have after a whole
training (`nas.schedulers.curves`): one that falls faster may pass one that is ahead. Where candidates are
compared by few or noisy looks this errs more than their scores do: see docs/how-to/choose_a_scheduler.md for
both measured.
"""

from __future__ import annotations

from nas.schedulers.base import schedulers
from nas.schedulers.halving import Halving
from nas.study.trial import Trial


@schedulers.add
class HalvingByCurve(Halving):
    """Promotes by predictions."""

    name = "halving_by_curve"

    def _point(self, trial: Trial) -> tuple[float, ...]:
        """What a whole training would give."""
        return self.point_of(self.believed(trial))
