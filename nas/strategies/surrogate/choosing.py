"""How children are chosen by a model: those of the best, and theirs, scored by what they should add."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

FIRST, RANDOM = 1 / 4, 1 / 16
"""Shares of the children of the best candidates, and of nobody. The rest are children of these."""

ROUNDS = 12
"""How often the best children so far have children."""

BEST, BEST_AMONG_OTHERS = 5, 25
"""How many of them do. While others are being scored the next proposals come of the same children, so these
should not all be alike."""

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
        width = model.kernels[0].centres.genes.size
        count = max(2, min(count, int(WORK / width)))
        if model.unbent is not None and chance.random() < beliefs.straight_share:
            model = model.unbent()
        front = _front(model, heard)
        awaited = self._outcomes.awaited()
        if len(awaited):
            points = model.similarities(awaited)
            front = np.vstack((front, model.predict(points)[0]))
            model = model.given(points)
        reference = _reference(front, model.scale(heard.values[heard.scored]).max(axis=0), chance)
        draws = chance.bit_generator.random_raw()

        def gains(rows: Rows) -> Array:
            points = model.similarities(rows)
            means, deviations = model.predict(points)
            # the same chance for all, so that none is ahead by its luck
            alike = np.random.default_rng(draws)
            return expected_improvement(means, deviations, front, reference, alike) * model.viable(points)

        best = BEST_AMONG_OTHERS if len(awaited) else BEST
        children = self._climbed(heard.rows[beliefs.parents], (count, best), gains, chance)
        return Shortlist(model, children, front, reference)

    def _climbed(
        self,
        parents: Rows,
        counts: tuple[int, int],
        gains: Callable[[Rows], Array],
        chance: np.random.Generator,
    ) -> Children:
        """So many children of the parents, and of so many best children over and over; best first."""
        count, few = counts
        first = breed(self._encoding, parents, max(1, int(count * FIRST)), chance)
        random = self._encoding.canonical(self._encoding.random(int(count * RANDOM), chance))
        known = set[bytes]()
        pool = self._unseen(
            np.vstack((first.rows, random)),
            np.vstack((first.parents, np.full((len(random), 2), -1))),
            known,
        )
        scores = gains(pool.rows) if len(pool.rows) else np.empty(0)
        each = -(-int(count * (1 - FIRST - RANDOM)) // ROUNDS)
        for _ in range(ROUNDS if len(pool.rows) else 0):
            best = np.argsort(-scores, kind="stable")[:few]
            bred = breed(self._encoding, pool.rows[best], each, chance)
            more = self._unseen(bred.rows, pool.parents[best][bred.parents[:, 0]], known)
            if len(more.rows):
                scores = np.concatenate((scores, gains(more.rows)))
                pool = Children(np.vstack((pool.rows, more.rows)), np.vstack((pool.parents, more.parents)))
        order = np.argsort(-scores, kind="stable")
        return Children(pool.rows[order], pool.parents[order])

    def _unseen(self, rows: Rows, parents: NDArray[np.int64], known: set[bytes]) -> Children:
        """The rows that nobody has proposed and that are not known, each once; they are known from now on."""
        which = [i for i in self._outcomes.new(rows).tolist() if rows[i].tobytes() not in known]
        known.update(rows[i].tobytes() for i in which)
        return Children(rows[which], parents[which])


def _reference(front: Array, worst: Array, chance: np.random.Generator) -> Array:
    """Below which point (K,) hypervolume counts: half of the time one just beyond the front.

    So it is looked for between the ends. Else the point is beyond the worst so far, to look past the ends, in
    all objectives or in one of them.
    """
    reference = reference_point(front[nondominated(front)])
    beyond = np.maximum(reference, worst)
    share, one = chance.random(), chance.integers(len(reference))
    if share < 0.5:
        return reference
    return beyond if share < 0.75 else np.where(np.arange(len(reference)) == one, beyond, reference)


def _front(model: Model, heard: Heard) -> Array:
    """Scaled values of the front; of those with errors, what the model believes they are."""
    values = model.scale(heard.values)
    for i, number in enumerate(heard.numbers.tolist()):
        values[i] = model.means.get(number, values[i])
    values = values[heard.scored]
    front: Array = values[nondominated(values)]
    return front
