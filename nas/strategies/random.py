"""Random search: every question answered uniformly. The baseline that other strategies must beat."""

from __future__ import annotations

from random import Random

from nas.strategies.base import Proposal, Strategy, strategies


@strategies.add
class RandomSearch(Strategy):
    """Independent draws from the space."""

    name = "random"

    def propose(self, number: int, dice: Random) -> Proposal:
        """A uniform draw."""
        genotype, spec = self.space.propose_with_spec(lambda path, labels: dice.choice(labels))
        return Proposal(genotype, spec=spec)
