"""Children that a model has scored, of which one after another is proposed while nothing new is heard.

Scoring a thousand children takes longer than many an evaluator takes for a candidate. So the best are kept:
after each proposal the front is as if it had the values expected of that child, the others are the less
uncertain the more they resemble it, and what they are expected to add is computed again (the "kriging
believer" of Ginsbourger, Le Riche and Carraro 2010, section 3.2).

Shapes: S children, K objectives, F points of a front.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas.strategies.surrogate.acquisition import expected_improvement
from nas.strategies.surrogate.breeding import Children
from nas.strategies.surrogate.encoding import Rows
from nas.strategies.surrogate.knowledge import Model
from nas.strategies.surrogate.model import Joint

Array = NDArray[np.float64]

KEPT = 200
"""Of the best children."""


class Shortlist:
    """Children, best first, by what a `model` expects that they add to a front (F, K).

    It is counted below a reference (K,).
    """

    def __init__(self, model: Model, children: Children, front: Array, reference: Array) -> None:
        self.model = model
        self._children = Children(children.rows[:KEPT], children.parents[:KEPT])
        self._front, self._reference = front, reference
        self._proposed: list[int] = []
        self._unheeded: list[int] = []

    def best(self, chance: np.random.Generator) -> Children:
        """The children that were not proposed, best first."""
        if not self._proposed:
            return self._children
        now = self._beliefs
        for child in self._unheeded:
            self._front = np.vstack((self._front, now.means[child]))
            now.believe(child)
        self._unheeded = []
        gains = expected_improvement(now.means, now.deviations, self._front, self._reference, chance)
        order = np.argsort(-gains * now.viable, kind="stable")
        order = order[~np.isin(order, self._proposed)]
        return Children(self._children.rows[order], self._children.parents[order])

    def believe(self, row: Rows) -> None:
        """The child of this row, should it be one, counts as if it had the values expected of it."""
        found = np.flatnonzero((self._children.rows == row).all(axis=1)).tolist()
        self._proposed += found
        self._unheeded += found

    @cached_property
    def _beliefs(self) -> _Beliefs:
        return _Beliefs(self.model, self._children.rows)


class _Beliefs:
    """Of S children: (S, K) means and deviations, and (S,) the chance that each can be scored."""

    def __init__(self, model: Model, rows: Rows) -> None:
        points = model.similarities(rows)
        self.means, self.deviations = model.predict(points)
        self.viable = model.viable(points)
        each = zip(model.posteriors, points[: len(model.posteriors)], strict=True)
        self._joints = [Joint.of(posterior, mine) for posterior, mine in each]

    def believe(self, child: int) -> None:
        """Less is uncertain once this child has the values that are expected of it."""
        for k, joint in enumerate(self._joints):
            self.deviations[:, k] *= joint.narrowed(child)
