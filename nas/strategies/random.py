"""Random search: every question answered uniformly. The baseline that other strategies must beat."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from foundation.settings import Settings
from nas.strategies.base import Proposal, Strategy, strategies
from nas.study.trial import PARENTS


@dataclass(frozen=True, kw_only=True)
class RandomSettings(Settings):
    """There are none."""

    title = "strategy random"


@strategies.add
class RandomSearch(Strategy):
    """Independent draws from the space."""

    name = "random"
    use = "as the baseline"
    settings_kind = RandomSettings

    def propose(self, number: int, dice: Random) -> Proposal:
        """A uniform draw."""
        genotype, spec = self.space.propose_with_spec(lambda path, labels: dice.choice(labels))
        return Proposal(genotype, {PARENTS: []}, spec)
