"""Hyperband: several halvings side by side, some of which begin later: when short trainings may mislead.

Li et al. 2018, arXiv:1603.06560, algorithm 1: a bracket begins at each rung, so that some candidates are
trained in full whatever their beginning looks like. Every bracket gets about the same number of training
steps, which fixes how many candidates begin where; they are taken in turn, so all brackets grow together and
each promotes by itself, asynchronously as in `halving`.
"""

from __future__ import annotations

from nas.schedulers.base import Ladder, schedulers
from nas.schedulers.halving import Halving

LARGE = 1000
"""Candidates over which the mean cost of one is taken, so that no rounding counts."""


@schedulers.add
class Hyperband(Halving):
    """A bracket for each rung. It costs more per candidate than halving, and errs less where ranks change."""

    name = "hyperband"

    @classmethod
    def weights(cls, ladder: Ladder) -> dict[int, float]:
        """As many candidates for each bracket as cost the same."""
        return {first: LARGE / ladder.cost(LARGE, first) for first in range(len(ladder.steps))}
