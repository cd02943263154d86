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

BRACKET = "bracket"
"""In a trial's memo: the bracket of its candidate, where there are several."""


@schedulers.add
class Halving(Scheduler):
    """One bracket: every candidate begins at the first rung. In doubt, where candidates are trained."""

    name = "halving"

    def __init__(self, ladder: Ladder, *, trials: int, point_of: PointOf) -> None:
        super().__init__(ladder, trials=trials, point_of=point_of)
        weights, planned = self.weights(ladder), self.shares(ladder, trials)
        self._brackets = [Bracket(self, first, weights[first], planned[first]) for first in weights]

    @classmethod
    def weights(cls, ladder: Ladder) -> dict[int, float]:
        """The first rung of each bracket, and in which ratio candidates begin there."""
        return {0: 1.0}

    @classmethod
    def shares(cls, ladder: Ladder, candidates: int) -> dict[int, int]:
        """How many of so many candidates begin where, when each takes the bracket that is furthest behind."""
        weights = cls.weights(ladder)
        counts = {first: int(candidates * w / sum(weights.values())) for first, w in weights.items()}
        while sum(counts.values()) < candidates:
            counts[min(counts, key=lambda first: (counts[first] + 1) / weights[first])] += 1
        return counts

    def begin(self) -> Beginning:
        """At the first rung of the bracket that is furthest behind."""
        bracket = min(self._brackets, key=lambda each: (each.begun + 1) / each.weight)
        memo = {BRACKET: bracket.first} if len(self._brackets) > 1 else {}
        return Beginning(self.ladder.steps[bracket.first], memo)

    def promotion(self) -> Promotion | None:
        """The best candidate without a promotion in the highest rung that has a place to give."""
        return next(filter(None, (bracket.promotion() for bracket in self._brackets)), None)

    def tell(self, trial: Trial) -> None:
        """Of a repeat the earlier trial counts, and what was not trained is in no rung."""
        if trial.goes_on or trial.counts or trial.state is TrialState.RUNNING:
            number = trial.memo.get(BRACKET, self._brackets[0].first)
            bracket = next((each for each in self._brackets if each.first == number), self._brackets[0])
            bracket.tell(trial)

    def without_prospects(self) -> Sequence[Trial]:
        """Those that all places which may still come would pass over."""
        return [trial for bracket in self._brackets for trial in bracket.without_prospects()]

    @classmethod
    def cost(cls, ladder: Ladder, candidates: int) -> float:
        """That of the brackets."""
        return float(
            sum(ladder.cost(count, first) for first, count in cls.shares(ladder, candidates).items())
        )

    @classmethod
    def whole_trainings(cls, ladder: Ladder, candidates: int) -> int:
        """Those in the last rung of every bracket."""
        return sum(ladder.places(count, first)[-1] for first, count in cls.shares(ladder, candidates).items())


class Bracket:
    """Candidates that begin at rung `first` of a ladder, `planned` of them in all, and where they stand.

    Of all candidates those of a bracket are in the ratio of its `weight`.
    """

    def __init__(self, scheduler: Scheduler, first: int, weight: float, planned: int) -> None:
        self.first, self.weight, self.begun = first, weight, 0
        self._running = set[int]()
        ladder, self._point_of = scheduler.ladder, scheduler.point_of
        most = ladder.places(planned, first)
        self._rungs = {
            steps: _Rung(ladder.keep, places)
            for steps, places in zip(ladder.steps[first:], [*most[1:], 0], strict=True)
        }

    def tell(self, trial: Trial) -> None:
        """A trial of a candidate of this bracket begins, or has ended."""
        steps = sorted(self._rungs)
        if trial.fidelity.steps not in self._rungs:  # of a plan with other rungs
            return
        if trial.reused is not None:
            self.begun -= trial.number in self._running  # it waited for its twin
            self._running.discard(trial.number)
            return
        index = steps.index(trial.fidelity.steps)
        if trial.goes_on and index:
            self._rungs[steps[index - 1]].promoted.add(trial.candidate)
        self.begun += not trial.goes_on and trial.number not in self._running
        if trial.state is TrialState.RUNNING:
            self._running.add(trial.number)
            return
        self._running.discard(trial.number)
        point = self._point_of(trial) if trial.state is TrialState.COMPLETE else None
        self._rungs[trial.fidelity.steps].tell(trial, point)

    def promotion(self) -> Promotion | None:
        """See `Halving.promotion`."""
        steps = sorted(self._rungs)
        for below, above in reversed(list(pairwise(steps))):
            trial = self._rungs[below].next()
            if trial is not None:
                return Promotion(trial, above)
        return None

    def without_prospects(self) -> Iterator[Trial]:
        """See `Halving.without_prospects`; who is in the last rung is kept, since its training is whole."""
        for steps in sorted(self._rungs)[:-1]:
            yield from self._rungs[steps].close()


class _Rung:
    """The candidates that ended at one rung, by the numbers they began with; it has up to `most` places."""

    def __init__(self, keep: float, most: int) -> None:
        self.keep, self.most = keep, most
        self.promoted = set[int]()
        self._scored: dict[int, tuple[Trial, tuple[float, ...]]] = {}
        self._failed: list[Trial] = []
        self._closed = set[int]()
        self._order: list[int] | None = None

    def tell(self, trial: Trial, point: tuple[float, ...] | None) -> None:
        """A candidate has ended here; without a point it failed."""
        if point is None:
            self._failed.append(trial)
        else:
            self._scored[trial.candidate] = (trial, point)
            self._order = None

    def next(self) -> Trial | None:
        """The best that was not promoted, where there is a place."""
        places = quota(len(self._scored), self.keep)
        if len(self.promoted) >= places:
            return None
        candidates = list(self._scored)
        if self._order is None or len(self._order) < places:
            points = [self._scored[number][1] for number in candidates]
            self._order = [candidates[i] for i in by_rank_and_spread(points, places)]
        waiting = (number for number in self._order if number not in self.promoted)
        number = next(waiting, None)
        return None if number is None else self._scored[number][0]

    def close(self) -> Iterator[Trial]:
        """Give up candidates beyond all places that may come; those who failed are given up anyway."""
        yield from self._failed
        self._failed = []
        places = max(self.most, quota(len(self._scored), self.keep))
        if len(self._scored) <= places + len(self._closed):
            return
        candidates = list(self._scored)
        points = [self._scored[number][1] for number in candidates]
        kept = {candidates[i] for i in by_rank_and_spread(points, places)} | self.promoted
        for number in sorted(self._scored.keys() - kept - self._closed):
            self._closed.add(number)
            yield self._scored[number][0]
