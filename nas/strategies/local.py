"""Local search: all neighbours of what is undominated, then theirs, and in the end elsewhere.

A neighbour answers one question otherwise (what that opens is answered by chance, once and for all). A climb
begins with random candidates, and has an archive of its undominated ones. While one of the archive has a
neighbour that nobody has tried, that is the next candidate; then the next climb begins. White, Nolen and
Savani 2020, "Exploring the Loss Landscape in Neural Architecture Search", arXiv:2005.02960; for several
objectives it is the Pareto local search of Paquete, Chiarandini and Stützle 2004.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from foundation.settings import Settings, setting
from nas.strategies.base import Proposal, strategies
from nas.strategies.memory import Remembering
from nas.study.trial import PARENTS, Trial, TrialState
from search_spaces.language.genotype import Genotype
from search_spaces.language.variation import changeable, neighbour

CLIMB = "climb"
"""In a trial's memo: the number of the climb that it belongs to."""


@dataclass(frozen=True, kw_only=True)
class LocalSettings(Settings):
    """How a climb begins."""

    title = "strategy local"

    start: int = setting(10, help="Random candidates that a climb begins with.", least=1, most=10**6)


@strategies.add
class Local(Remembering):
    """When there is a good start, or little noise: every candidate one gene from what is best so far."""

    name = "local"
    use = "where there is little noise"
    settings_kind = LocalSettings
    settings: LocalSettings

    def prepare(self) -> None:
        """No climb yet."""
        super().prepare()
        self._labels = {gene.path: gene.labels for gene in self.space.genes}
        self._climb = 0
        self._begun_with = set[int]()  # the numbers of the random candidates of this climb
        self._archive: list[Trial] = []  # the undominated of this climb
        self._explored = set[int]()  # those of the archive of which all neighbours were tried

    def propose(self, number: int, dice: Random) -> Proposal:
        """A neighbour that nobody has tried; a random draw where a climb begins."""
        if len(self._begun_with) >= self.settings.start:
            for centre in dice.sample(self._archive, len(self._archive)):
                if centre.number in self._explored:
                    continue
                # of its own, so that it does not matter which were found to be explored before a stop
                order = Random(f"{self.seed}/{number}/{centre.number}")
                for genotype, spec in self._neighbours(centre.genotype, order):
                    return Proposal(genotype, {PARENTS: [centre.number], CLIMB: self._climb}, spec)
                self._explored.add(centre.number)
            if self._archive:
                self._begin(self._climb + 1)
        self._begun_with.add(number)
        genotype, spec = self.another(dice)
        return Proposal(genotype, {PARENTS: [], CLIMB: self._climb}, spec)

    def take_up(self, trial: Trial) -> None:
        """Count it to its climb."""
        super().take_up(trial)
        self._hear(trial)

    def learn(self, trial: Trial) -> None:
        """What is undominated in its climb joins the archive, and what it dominates leaves."""
        self._hear(trial)
        if trial.state is not TrialState.COMPLETE or trial.memo.get(CLIMB, 0) != self._climb:
            return
        new = trial.losses(self.goals)
        known = [(each, each.losses(self.goals)) for each in self._archive]
        if not any(_as_good(old, new) for _, old in known):
            self._archive = [*(each for each, old in known if not _as_good(new, old)), trial]

    def _hear(self, trial: Trial) -> None:
        """A trial of a later climb says that it has begun."""
        climb = trial.memo.get(CLIMB, 0)
        if climb > self._climb:
            self._begin(climb)
        if climb == self._climb and not trial.memo.get(PARENTS):
            self._begun_with.add(trial.number)

    def _begin(self, climb: int) -> None:
        self._climb = climb
        self._begun_with, self._archive, self._explored = set(), [], set()

    def _neighbours(self, centre: Genotype, dice: Random) -> Iterator[tuple[Genotype, Any]]:
        """New and allowed neighbours with their architectures, in an order of chance."""
        paths = changeable(self.space, centre)
        for path in dice.sample(paths, len(paths)):
            for label in dice.sample(self._labels[path], len(self._labels[path])):
                if label == centre.genes[path]:
                    continue
                # the same on every visit, or there would be no end of neighbours that open questions
                always = Random(f"{self.seed}/{centre.digest}/{path}/{label}")
                genotype, spec = neighbour(self.space, centre, path, label, always)
                if self.is_new(genotype) and not self.space.objection(spec) and self.keeps_constraints(spec):
                    yield genotype, spec


def _as_good(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether the first is at least as good in every objective."""
    return all(a <= b for a, b in zip(first, second, strict=True))
