"""The repair of a discretised architecture: the likeliest that is allowed and within all tolerances.

What came out of a search may miss a target, because the expectation was met and not the architecture. So the
true costs are looked at: first of the likeliest architecture, then of random draws, of which the best few are
improved by changing one answer at a time, in the end also two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from torch import Tensor

from evaluators.differentiable.answers import Answers, answered, likelihood
from foundation.errors import SettingError, SpaceError
from search_spaces.language.genotype import Genotype, Label
from search_spaces.mixture.conditions import Genes
from search_spaces.network.additive_cost import Total

DRAWS = 512
"""Candidates that are drawn."""

TEMPERATURES = (1.0, 2.0, 4.0)
"""Of the draws, in turn: the higher, the more unlikely are the candidates."""

CLIMBS = 6
"""Candidates that are improved."""

PAIRS = 2000
"""Changes of two answers that are tried, at most."""


@dataclass(frozen=True)
class Target:
    """A cost that the chosen architecture shall have, within `tolerance` of it (a share)."""

    name: str
    value: float
    total: Total
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.value < math.inf or not 0 < self.tolerance < 1:
            raise SettingError(
                f"target {self.name}: it must be positive and its tolerance between 0 and 1,"
                f" got {self.value} and {self.tolerance}"
            )


@dataclass(frozen=True, eq=False)
class Choice:
    """An architecture, its costs by target, and how far beyond the tolerances it is (0: it meets all)."""

    genotype: Genotype
    costs: Mapping[str, float]
    excess: float
    likelihood: float


def repaired(genes: Genes, shares: Tensor, targets: Sequence[Target], *, seed: int = 0) -> Choice:
    """The likeliest allowed architecture that was found within the tolerance of every target.

    Where none meets the targets, the one that comes nearest: look at its `excess`.

    Raises:
        SpaceError: no allowed architecture was found.
    """
    return _Repair(genes, shares.detach().double(), tuple(targets)).best(Random(f"{seed}/repair"))


@dataclass(frozen=True, eq=False)
class _Repair:
    genes: Genes
    shares: Tensor
    targets: tuple[Target, ...]

    def best(self, dice: Random) -> Choice:
        """The best of the likeliest architecture, of random draws, and of changes of both."""
        likeliest = self._judged([answered(self.genes, {}, self.shares)])
        if likeliest and likeliest[0].excess == 0.0:
            return likeliest[0]
        draws = [self._drawn(dice, TEMPERATURES[i % len(TEMPERATURES)]) for i in range(DRAWS)]
        candidates = likeliest + self._judged(draws)
        if not candidates:
            raise SpaceError(f"{self.genes.space.name}: none of {DRAWS} likely architectures is allowed")
        starts = dict.fromkeys([*likeliest, *sorted(candidates, key=_order)[:CLIMBS]])
        best = min(map(self._climbed, starts), key=_order)
        # two answers at once may keep a cost where one cannot
        return self._climbed(self._two_changed(best, dice)) if self.targets else best

    def _climbed(self, choice: Choice) -> Choice:
        """Change one answer at a time while that helps."""
        while True:
            better = min(self._judged(self._neighbours(choice.genotype)), key=_order, default=choice)
            if _order(better) >= _order(choice):
                return choice
            choice = better

    def _two_changed(self, choice: Choice, dice: Random) -> Choice:
        """The best of architectures with two other answers, or the same where none is better."""
        neighbours = self._neighbours(choice.genotype)
        pairs = [pair for neighbour in neighbours for pair in self._neighbours(neighbour)]
        return min([choice, *self._judged(dice.sample(pairs, min(PAIRS, len(pairs))))], key=_order)

    def _neighbours(self, genotype: Genotype) -> list[Genotype]:
        """The architectures with one other answer."""
        return [
            answered(self.genes, {**genotype.genes, path: label}, self.shares)
            for path, given in genotype.genes.items()
            for label in self.genes.gene(path).labels
            if label != given or type(label) is not type(given)
        ]

    def _drawn(self, dice: Random, temperature: float) -> Genotype:
        def answer(path: str, labels: tuple[Label, ...]) -> Label:
            chances = self.shares[self.genes.slice(self.genes.gene(path))] ** (1 / temperature)
            return dice.choices(labels, chances.clamp_min(1e-12).tolist())[0]

        return self.genes.space.draw(answer)[0]

    def _judged(self, genotypes: Iterable[Genotype]) -> list[Choice]:
        """The allowed ones among these, with their costs."""
        allowed: dict[Genotype, Any] = {}
        for genotype in dict.fromkeys(genotypes):
            spec = self.genes.space.draw(partial(_answer_of, genotype.genes))[1]
            if self.genes.space.objection(spec) is None:
                allowed[genotype] = spec
        if not allowed:
            return []
        specs = list(allowed.values())
        totals = {target.name: list(map(float, target.total(specs))) for target in self.targets}
        return [
            self._choice(genotype, {name: values[i] for name, values in totals.items()})
            for i, genotype in enumerate(allowed)
        ]

    def _choice(self, genotype: Genotype, costs: Mapping[str, float]) -> Choice:
        missed = (abs(costs[t.name] / t.value - 1) - t.tolerance for t in self.targets)
        excess = sum(max(0.0, gap) for gap in missed)
        return Choice(genotype, costs, excess, likelihood(self.genes, self.shares, genotype))


def _order(choice: Choice) -> tuple[float, float]:
    return choice.excess, -choice.likelihood


def _answer_of(answers: Answers, path: str, labels: tuple[Label, ...]) -> Label:
    return answers[path]
