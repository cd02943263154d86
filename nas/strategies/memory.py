"""Strategies that remember what was proposed, and propose none of it again while there is another."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from random import Random
from typing import Any, TypeVar

from foundation.errors import EvaluationFailed
from nas.strategies.base import Proposal, Strategy
from nas.study.trial import Trial
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import PATIENCE

LISTED = 4096
"""A space of at most so many architectures is listed, so that the last of them are found too."""

Origin = TypeVar("Origin")


class Remembering(Strategy):
    """Proposes no architecture twice while it finds another.

    A subclass has `learn` in place of `tell`, and `propose` gets its architecture from `fresh`. Those that
    are being scored are remembered like those of which the outcome is known.
    """

    def prepare(self) -> None:
        """Nothing was proposed yet."""
        super().prepare()
        self._proposed = Counter[Genotype]()

    def ask(self, number: int) -> Proposal:
        """A candidate for trial `number`, which is remembered."""
        proposal = super().ask(number)
        self._proposed[proposal.genotype] += 1
        return proposal

    def moved(self, proposal: Proposal, genotype: Genotype, spec: Any) -> Proposal:
        """The proposal at another architecture, which is remembered in its place."""
        self._proposed[proposal.genotype] -= 1
        self._proposed[genotype] += 1
        return super().moved(proposal, genotype, spec)

    def take_up(self, trial: Trial) -> None:
        """Remember a trial that was being scored when the search stopped."""
        self._proposed[trial.genotype] += 1

    def tell(self, trial: Trial) -> None:
        """Remember a trial, and learn from it."""
        self._proposed[trial.genotype] += 1
        self.learn(trial)

    @abstractmethod
    def learn(self, trial: Trial) -> None:
        """Learn from the outcome of a trial, whatever it was."""

    def is_new(self, genotype: Genotype) -> bool:
        """Whether nobody has proposed it."""
        return self._proposed[genotype] <= 0

    def fresh(
        self, child: Callable[[], tuple[Genotype, Any, Origin]], dice: Random
    ) -> tuple[Genotype, Any, Origin | None]:
        """The first child that is new and allowed: genotype, architecture and what `child` says of it.

        Where children break constraints, they are moved to what keeps them, as far as that is known. After
        `2 * PATIENCE` children it is any new architecture, without an origin, or a known one where none is
        found.

        Raises:
            SpaceError: no architecture is found that keeps the constraints in code.
        """
        for count in range(2 * PATIENCE):
            genotype, spec, origin = child()
            if self.space.objection(spec) is not None:
                moved = self.space.moved_to_allowed(genotype) if count >= PATIENCE else None
                if moved is None:
                    continue
                genotype, spec = moved
            # the driver moves what breaks a constraint on costs again and again
            if self.is_new(genotype) and (count >= PATIENCE or self.keeps_constraints(spec)):
                return genotype, spec, origin
        return *self.another(dice), None

    def keeps_constraints(self, spec: Any) -> bool:
        """Whether an architecture keeps the constraints on costs, as far as these can be computed."""
        try:
            return not self.known.constraints or self.known.violation(spec) is None
        except EvaluationFailed:  # which is its outcome
            return True

    def another(self, dice: Random) -> tuple[Genotype, Any]:
        """An allowed architecture by chance, a new one where one is found, that keeps the constraints on
        costs where one does."""
        new = []
        for _ in range(PATIENCE):
            genotype, spec = self.space.propose_with_spec(lambda path, labels: dice.choice(labels))
            if self.is_new(genotype):
                new.append((genotype, spec))
                if self.keeps_constraints(spec):
                    break
        if new:
            return new[-1]
        left = [each for each in self._listed if self.is_new(each) and each not in self._refused]
        for each in dice.sample(left, len(left)):
            built = self.space.draw_genotype(each)
            if self.space.objection(built) is None:
                return each, built
            self._refused.add(each)
        return genotype, spec

    @cached_property
    def _listed(self) -> list[Genotype]:
        """All architectures of a small space, allowed or not."""
        return list(self.space.enumerate()) if self.space.size() <= LISTED else []

    @cached_property
    def _refused(self) -> set[Genotype]:
        """Those that are known not to be allowed."""
        return set()
