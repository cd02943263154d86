"""Halving by what learning curves promise: when trainings are long and smooth, and candidates are few.

As `halving`, but a rung promotes by the scores that its candidates are predicted to have after a whole
training (`nas.schedulers.curves`): one that falls faster may pass one that is ahead. All of a rung are
compared by what they had shown up to there, also those that were trained further since. Where candidates are
compared by few or noisy looks this errs as often as their scores do: see docs/how-to/choose_a_scheduler.md
for both measured.
"""

from __future__ import annotations

from dataclasses import replace

from nas.schedulers.base import schedulers
from nas.schedulers.halving import Halving
from nas.study.trial import Trial, Value


@schedulers.add
class HalvingByCurve(Halving):
    """Promotes by predictions."""

    name = "halving_by_curve"

    def _point(self, trial: Trial) -> tuple[float, ...]:
        """What a whole training would give, by what was seen up to this rung."""
        candidate = trial.candidate if trial.reused is None else trial.reused
        promised = {
            name: Value(curves.promised(candidate, trial.fidelity.steps))
            for name, curves in self._curves.items()
        }
        return self.point_of(replace(trial, values={**trial.values, **promised}))
