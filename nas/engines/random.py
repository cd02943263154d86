"""Random choice from the shared weights: the baseline that every other engine must beat."""

from __future__ import annotations

from nas.engines.base import Engine, Prepared, Setup, engines
from nas.strategies.random import RandomSearch


@engines.add
class RandomChoice(Engine):
    """Independent draws from the space, scored like everything else."""

    name = "random"
    needs_supernet = False

    def prepare(self, setup: Setup) -> Prepared:
        """Nothing to get ready."""
        return Prepared(RandomSearch(setup.space, setup.goals, seed=setup.plan.seed))
