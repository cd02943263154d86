"""Successive halving: all candidates are trained briefly, and the best third of each rung goes on.

Asynchronous, as ASHA (Li et al. 2020, arXiv:1810.05934, algorithm 2): whenever there is room, a rung that
has a place to give promotes its best candidate at once, and nobody waits until a rung is full. As in D-ASHA
(Li et al. 2022, arXiv:2201.06834), the places of a rung never exceed the share `keep` of those that ended in
the rung below: an early promotion that later comers would not have granted uses up a place, instead of making
the search dearer. So the cost is known before: that of synchronous halving.

The best are, among all objectives, those that no other dominates, then the next front; of a front that does
not fit, a spread that contains the best in the first objective. Candidates are compared within their rung
only, where all were trained for the same number of steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from nas.pareto import by_rank_and_spread
from nas.schedulers.base import Beginning, Ladder, PointOf, Promotion, Scheduler, quota, schedulers
from nas.study.trial import Trial, TrialState


@schedulers.add
class Halving(Scheduler):
    """Every candidate begins at the first rung. In doubt, where candidates are trained."""

    name = "halving"

    def __init__(self, ladder: Ladder, *, trials: int, point_of: PointOf, scores: Sequence[str] = ()) -> None:
        super().__init__(ladder, trials=trials, point_of=point_of, scores=scores)
        self._begun = dict.fromkeys(self.weights(ladder), 0)
        self._running = set[int]()
        places = [quota(count, ladder.keep) for count in ladder.reached(self.shares(ladder, trials))]
        self._rungs: dict[int, Rung] = {}
        above: Rung | None = None
        for steps, most in zip(reversed(ladder.steps), reversed(places), strict=True):
            self._rungs[steps] = above = self._rung(most, above)

    @classmethod
    def weights(cls, ladder: Ladder) -> dict[int, float]:
        """The rungs at which candidates begin, from 0, and in which ratio."""
        return {0: 1.0}

    @classmethod
    def shares(cls, ladder: Ladder, candidates: int) -> dict[int, int]:
        """How many of so many candidates begin where, when each takes the rung that is furthest behind."""
        weights = cls.weights(ladder)
        counts = {first: int(candidates * w / sum(weights.values())) for first, w in weights.items()}
        while sum(counts.values()) < candidates:
            counts[cls._behind(ladder, counts)] += 1
        return counts

    @classmethod
    def _behind(cls, ladder: Ladder, counts: dict[int, int]) -> int:
        weights = cls.weights(ladder)
        return min(counts, key=lambda first: (counts[first] + 1) / weights[first])

    def _rung(self, most: int, above: Rung | None) -> Rung:
        """One with up to so many places in the one above it."""
        return Rung(self.ladder.keep, most, self._point)

    def _point(self, trial: Trial) -> tuple[float, ...]:
        """By which candidates of a rung are compared: as scored there."""
        return self.point_of(trial)

    def begin(self) -> Beginning:
        """At the rung where fewest have begun for its weight."""
        return Beginning(self.ladder.steps[self._behind(self.ladder, self._begun)])

    def promotion(self) -> Promotion | None:
        """The best candidate without a promotion in the highest rung that has a place to give."""
        for below, above in reversed(list(pairwise(self.ladder.steps))):
            trial = self._rungs[below].next()
            if trial is not None:
                return Promotion(trial, above)
        return None

    def tell(self, trial: Trial) -> None:
        """Of a repeat the earlier trial counts, and what was not trained is in no rung."""
        super().tell(trial)
        steps, running = trial.fidelity.steps, trial.state is TrialState.RUNNING
        trained = trial.goes_on or trial.counts or running
        if steps not in self._rungs or not trained:  # perhaps of a plan with other rungs
            return
        rung, was_running = self.ladder.steps.index(steps), trial.number in self._running
        (self._running.add if running else self._running.discard)(trial.number)
        if trial.reused is not None:
            self._begun[rung] -= was_running  # it waited for its twin
        elif trial.goes_on and rung:
            self._rungs[self.ladder.steps[rung - 1]].promote(trial.candidate)
        elif rung in self._begun:
            self._begun[rung] += not was_running
        if not running and trial.reused is None:
            self._rungs[steps].tell(trial)

    def without_prospects(self) -> Sequence[Trial]:
        """Those that all places which may still come would pass over; a whole training is always kept."""
        return [trial for steps in self.ladder.steps[:-1] for trial in self._rungs[steps].close()]

    @classmethod
    def cost(cls, ladder: Ladder, candidates: int) -> float:
        """Of all rungs."""
        return float(ladder.cost(cls.shares(ladder, candidates)))

    @classmethod
    def whole_trainings(cls, ladder: Ladder, candidates: int) -> int:
        """Those in the last rung."""
        return ladder.reached(cls.shares(ladder, candidates))[-1]


class Rung:
    """The candidates that ended at one rung, by the numbers they began with; it has up to `most` places."""

    def __init__(self, keep: float, most: int, point_of: PointOf) -> None:
        self.keep, self.most, self.point_of = keep, most, point_of
        self.promoted, self.lost = set[int](), set[int]()
        self.scored: dict[int, Trial] = {}
        self._failed: list[Trial] = []
        self._closed = set[int]()
        self._waiting: Trial | None = None
        self._known = False

    def tell(self, trial: Trial) -> None:
        """A candidate has ended here."""
        if trial.state is TrialState.COMPLETE:
            self.scored[trial.candidate] = trial
            self._known = False
        else:
            self.lost.add(trial.candidate)
            self._failed.append(trial)

    def promote(self, number: int) -> None:
        """A candidate has gone on."""
        self.promoted.add(number)
        self._known = False

    def next(self) -> Trial | None:
        """The best that was not promoted, where there is a place; decided when one has ended or gone on."""
        if not self._known:
            places = quota(len(self.scored), self.keep)
            chosen = self._best(places) if len(self.promoted) < places else []
            waiting = (self.scored[number] for number in chosen if number not in self.promoted)
            self._waiting, self._known = next(waiting, None), True
        return self._waiting

    def close(self) -> Iterator[Trial]:
        """Give up candidates beyond all places that may come; those who failed are given up anyway."""
        yield from self._failed
        self._failed = []
        places = max(self.most, quota(len(self.scored), self.keep))
        if len(self.scored) <= places + len(self._closed):
            return
        for number in sorted(self._hopeless(places) - self._closed):
            self._closed.add(number)
            yield self.scored[number]

    def _hopeless(self, places: int) -> set[int]:
        """Those without a promotion whom so many places would pass over."""
        return self.scored.keys() - {*self._best(places), *self.promoted}

    def _best(self, places: int) -> list[int]:
        """The numbers of so many candidates, best first."""
        candidates = list(self.scored)
        points = [self.point_of(trial) for trial in self.scored.values()]
        return [candidates[i] for i in by_rank_and_spread(points, places)]
