"""Hyperband: some candidates begin at a later rung, some train to the end: when short trainings may mislead.

Li et al. 2018, arXiv:1603.06560, algorithm 1: a bracket of candidates begins at each rung, as many as take
the same number of training steps, so that some are trained long whatever their beginning looks like. They
begin in turn, and compete in the rungs that they share: apart, the smaller brackets of a small search would
bring nobody to the end. Promotions are those of `halving`.
"""

from __future__ import annotations

from nas.schedulers.base import Ladder, schedulers
from nas.schedulers.halving import Halving

LARGE = 1000
"""Candidates over which the mean cost of one is taken, so that no rounding counts."""


@schedulers.add
class Hyperband(Halving):
    """Candidates begin at every rung. One costs more than with halving, and late bloomers are found."""

    name = "hyperband"

    @classmethod
    def weights(cls, ladder: Ladder) -> dict[int, float]:
        """As many at each rung as cost the same."""
        return {first: LARGE / ladder.cost({first: LARGE}) for first in range(len(ladder.steps))}
