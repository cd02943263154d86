"""Halving by what a candidate is expected to add to the front of the rung above.

As `halving`, but what a candidate will have after its further training is predicted, with an error, from its
scores, its costs and its genes (`nas.schedulers.next_rung`), and the one goes on whose expected improvement
of the hypervolume is largest (`nas.strategies.surrogate.acquisition`), given those that went on before. So
scores at the lower rung need not rank candidates as the end does: what those that went on have shown counts.
The model is as good as the last rung is large: with two rungs it learns most for the same cost, so these are
usual here.

While candidates begin, only half of the places are given: whoever goes on late is chosen among more
candidates, with a better model. Nobody waits for it, since new candidates begin meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nas.pareto import by_rank_and_spread, reference_point
from nas.schedulers.base import Beginning, Ladder, PointOf, quota, schedulers
from nas.schedulers.halving import Halving, Rung
from nas.schedulers.next_rung import gene_counts, predicted
from nas.strategies.surrogate.acquisition import expected_improvement
from nas.study.trial import Trial, TrialState

LEAST = 3
"""Candidates in the rung above from which a model is learned; until then those go on that `halving` takes."""

PLANNED = "planned"
"""In the memo of a trial: how many candidates the search was to have when it began."""

EARLY = 0.5
"""Share of the places that is given while candidates begin."""


@schedulers.add
class HalvingByGain(Halving):
    """Promotes by expected improvement of the front. For several objectives, with one or two rungs."""

    name = "halving_by_gain"

    def __init__(self, ladder: Ladder, *, trials: int, point_of: PointOf, scores: Sequence[str] = ()) -> None:
        super().__init__(ladder, trials=trials, point_of=point_of, scores=scores)
        self._candidates = set[int]()
        self._planned = trials

    @classmethod
    def usual_rungs(cls, full: int, keep: float) -> tuple[int, ...]:
        """Two."""
        return tuple(sorted({max(1, round(full * keep**2)), full}))

    def _rung(self, most: int, above: Rung | None) -> Rung:
        """One that gives its places by gain."""
        return _GainRung(self.ladder.keep, most, self._point, above=above, all_begun=self._all_begun)

    def begin(self) -> Beginning:
        """As with `halving`; the memo says how many were to come, which more may be later."""
        return replace(super().begin(), memo={PLANNED: self.trials})

    def tell(self, trial: Trial) -> None:
        """Count candidates as the driver does: repeats too, but none that broke a constraint."""
        super().tell(trial)
        if trial.goes_on:
            return
        counts = trial.counts or trial.state is TrialState.RUNNING
        (self._candidates.add if counts else self._candidates.discard)(trial.number)
        planned = trial.memo.get(PLANNED)
        if trial.counts and type(planned) is int:
            self._planned = planned

    def _all_begun(self) -> bool:
        return len(self._candidates) >= self._planned


class _GainRung(Rung):
    """Its places are given one by one, to whoever adds most to what is known of the rung above."""

    def __init__(
        self,
        keep: float,
        most: int,
        point_of: PointOf,
        *,
        above: Rung | None,
        all_begun: Callable[[], bool],
    ) -> None:
        super().__init__(keep, most, point_of)
        self._above, self._all_begun = above, all_begun
        self._genes: dict[int, Counter[str]] = {}
        self._decided: tuple[tuple[int, ...], Trial | None] = ((), None)

    def next(self) -> Trial | None:
        """The candidate with the largest gain, where there is a place."""
        share = self.keep if self._all_begun() else EARLY * self.keep
        if self._above is None or len(self.promoted) >= quota(len(self.scored), share):
            return None
        state = len(self.scored), len(self.promoted), len(self._above.scored), len(self._above.lost)
        if self._decided[0] != state:
            self._decided = state, self._chosen(self._above)
        return self._decided[1]

    def _hopeless(self, places: int) -> set[int]:
        """Nobody, until all places are given: what is learned meanwhile may favour anyone."""
        return set(self.scored) - self.promoted if len(self.promoted) >= places else set()

    def _chosen(self, above: Rung) -> Trial:
        numbers = list(self.scored)
        here = np.array([self.point_of(trial) for trial in self.scored.values()], dtype=float)
        known, gone = (np.array([n in those for n in numbers]) for those in (above.scored, self.promoted))
        if known.sum() < LEAST:
            order = [*by_rank_and_spread(here.tolist(), int(gone.sum()) + 1), *range(len(numbers))]
            return self.scored[next(numbers[i] for i in order if not gone[i])]
        there = here.copy()
        there[known] = [self.point_of(above.scored[n]) for n in numbers if n in above.scored]
        for number in numbers:
            self._genes.setdefault(number, gene_counts(self.scored[number].genotype))
        means, errors = predicted(here, [self._genes[n] for n in numbers], there, known)
        on_front = gone & np.array([n not in above.lost for n in numbers])
        gains = _gains(means, errors, on_front)
        gains[gone] = -np.inf
        return self.scored[numbers[int(gains.argmax())]]


def _gains(
    means: NDArray[np.float64], errors: NDArray[np.float64], on_front: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """By how much each candidate is expected to add to the hypervolume of those `on_front`, scaled."""
    least = means.min(axis=0)
    scale = reference_point(means) - least
    scaled = (means - least) / scale
    dice = np.random.default_rng(0)  # the same directions every time: a search that was resumed decides alike
    return expected_improvement(
        scaled, np.maximum(errors / scale, 1e-6), scaled[on_front], np.ones(len(scale)), dice
    )
