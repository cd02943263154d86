"""How children are chosen by a model: those of the best, and theirs, scored by what they should add."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.pareto import nondominated, reference_point
from nas.strategies.surrogate.acquisition import expected_improvement
from nas.strategies.surrogate.breeding import Children, breed
from nas.strategies.surrogate.encoding import Encoding, Rows
from nas.strategies.surrogate.heard import Heard
from nas.strategies.surrogate.knowledge import Model
from nas.strategies.surrogate.outcomes import Outcomes
from nas.strategies.surrogate.scales import straight_share
from nas.strategies.surrogate.shortlist import Shortlist

Array = NDArray[np.float64]

FEWEST_PARENTS = 12

WORK = 6e7
"""Multiplications of a scoring; in a space of many genes fewer children are looked at."""


@dataclass
class Beliefs:
    """What follows from the outcomes so far: the model, if there is one, and the children it has scored."""

    heard: Heard
    model: Model | None
    parents: NDArray[np.int64]  # indices of the outcomes to breed from
    straight_share: float  # of the scorings that are made on scales which are not bent
    shortlist: Shortlist | None = None

    @classmethod
    def of(cls, heard: Heard, model: Model | None, scales: Mapping[int, bool]) -> Beliefs:
        """Those with the front as parents, and what is next behind it where that is small.

        `scales` say of trials that a model proposed whether that was the straight one.
        """
        values = heard.values[heard.scored]
        front = nondominated(values)
        few = max(sum(front), FEWEST_PARENTS)
        best = set(heard.numbers[heard.scored][np.array(front, bool)].tolist())
        parents = heard.ranked()[:few] if len(values) else np.empty(0, np.int64)
        return cls(heard, model, parents, straight_share(scales, best))


class Chooser:
    """Scores `count` children of one space at most, none of which anybody has proposed."""

    def __init__(self, encoding: Encoding, outcomes: Outcomes, count: int) -> None:
        self._encoding, self._outcomes, self._count = encoding, outcomes, count

    def shortlist(self, model: Model, beliefs: Beliefs, chance: np.random.Generator) -> Shortlist:
        """Children by what they are expected to add, best first."""
        heard, count = beliefs.heard, self._count
        width = model.kernels.centres.genes.shape[1] * len(model.kernels.centres.genes)
        count = max(2, min(count, int(WORK / width)))
        if model.straight is not None and chance.random() < beliefs.straight_share:
            model = model.straight
        front = _front(model, heard)
        awaited = self._outcomes.awaited()
        if len(awaited):
            points = model.similarities(awaited)
            front = np.vstack((front, model.predict(points)[0]))
            model = model.given(points)
        # beyond the front so far, or beyond all so far: the one looks between its ends, the other past them
        reference = reference_point(front[nondominated(front)])
        if chance.random() < 0.5:
            reference = np.maximum(reference, model.scale(heard.values[heard.scored]).max(axis=0))

        def gains(rows: Rows) -> Array:
            points = model.similarities(rows)
            means, deviations = model.predict(points)
            added = expected_improvement(means, deviations, front, reference, chance)
            return added * model.viable(points)

        random = self._encoding.canonical(self._encoding.random(count // 8, chance))
        first = breed(self._encoding, heard.rows[beliefs.parents], count // 2, chance)
        pool = self._unseen(
            np.vstack((first.rows, random)),
            np.vstack((first.parents, np.full((len(random), 2), -1))),
        )
        scores = gains(pool.rows) if len(pool.rows) else np.empty(0)
        if len(pool.rows):
            chosen = np.argsort(-scores, kind="stable")[: max(2, count // 40)]
            second = breed(self._encoding, pool.rows[chosen], count // 2, chance)
            more = self._unseen(second.rows, pool.parents[chosen][second.parents[:, 0]])
            if len(more.rows):
                scores = np.concatenate((scores, gains(more.rows)))
                pool = Children(np.vstack((pool.rows, more.rows)), np.vstack((pool.parents, more.parents)))
        order = np.argsort(-scores, kind="stable")
        return Shortlist(model, Children(pool.rows[order], pool.parents[order]), front, reference)

    def _unseen(self, rows: Rows, parents: NDArray[np.int64]) -> Children:
        """The rows that nobody has proposed, each once."""
        which = self._outcomes.new(rows)
        return Children(rows[which], parents[which])


def _front(model: Model, heard: Heard) -> Array:
    """Scaled values of the front; of those with errors, what the model believes they are."""
    values = model.scale(heard.values)
    for i, number in enumerate(heard.numbers.tolist()):
        values[i] = model.means.get(number, values[i])
    values = values[heard.scored]
    front: Array = values[nondominated(values)]
    return front
