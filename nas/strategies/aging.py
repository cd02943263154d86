"""Regularized evolution: the young are mutated, and the oldest die however good they are.

Of a few candidates that are drawn from the living, one that none of them dominates becomes a parent, and its
child differs in one gene that is asked. Only the youngest `population` live, so that a value which was good
by luck does not have children for ever. Real et al. 2019, "Regularized Evolution for Image Classifier
Architecture Search", arXiv:1802.01548; with several objectives the best of the tournament is drawn from its
front.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from foundation.settings import Settings, setting
from foundation.wording import argument
from nas.pareto import nondominated
from nas.strategies.base import Proposal, strategies
from nas.strategies.memory import Remembering
from nas.study.trial import PARENTS, Trial, TrialState
from search_spaces.language.genotype import Genotype
from search_spaces.language.variation import mutant


@dataclass(frozen=True, kw_only=True)
class AgingSettings(Settings):
    """Sizes for budgets of some hundred candidates; the paper has 100 and 25 for 20,000."""

    title = "strategy aging"

    population: int = setting(32, help="How many of the youngest live.", least=2, most=10**6)
    tournament: int = setting(8, help="Of how many an undominated one has a child.", least=1, most=10**6)


@strategies.add
class Aging(Remembering):
    """When values are noisy: mutations of the undominated of a few young candidates; the oldest die."""

    name = "aging"
    use = "where values are noisy"
    settings_kind = AgingSettings
    settings: AgingSettings

    def prepare(self) -> None:
        """Nobody lives yet."""
        super().prepare()
        self._living = deque[Trial](maxlen=self.settings.population)

    @classmethod
    def remark(cls, settings: Settings, trials: int) -> str:
        """That nobody has children before the population is full."""
        assert isinstance(settings, AgingSettings)
        if trials > settings.population:
            return ""
        return (
            f"{argument('trials', trials)}: aging draws its first {settings.population} candidates at random,"
            " so this is a random search; give more trials, or a smaller population"
        )

    def propose(self, number: int, dice: Random) -> Proposal:
        """A child that differs in one gene; a random draw while the population is not full."""
        if len(self._living) < self.settings.population:
            genotype, spec = self.another(dice)
            return Proposal(genotype, {PARENTS: []}, spec)
        genotype, spec, parent = self.fresh(partial(self._child, dice), dice)
        return Proposal(genotype, {PARENTS: [] if parent is None else [parent]}, spec)

    def learn(self, trial: Trial) -> None:
        """A candidate that was scored is born."""
        if trial.state is TrialState.COMPLETE:
            self._living.append(trial)

    def _child(self, dice: Random) -> tuple[Genotype, Any, int]:
        """A mutant of who wins a tournament, its architecture, and the number of its parent."""
        drawn = dice.sample(range(len(self._living)), min(self.settings.tournament, len(self._living)))
        rivals = [self._living[i] for i in drawn]
        undominated = nondominated([rival.losses(self.goals) for rival in rivals])
        parent = dice.choice([rival for rival, wins in zip(rivals, undominated, strict=True) if wins])
        return *mutant(self.space, parent.genotype, dice), parent.number
