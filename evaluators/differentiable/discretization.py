"""From shares back to one architecture: by magnitude, by perturbation, and the repair that meets targets.

By magnitude, every question gets the option of the largest share. By perturbation (Wang et al. 2021,
arXiv:2108.04392), questions are decided one by one: the option whose removal from the mixture hurts the loss
most is kept. What came out may miss a target, because the expectation was met and not the architecture; the
repair looks for the likeliest architecture within a tolerance of every target, by the true costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, TypeAlias

import torch
from torch import Tensor

from evaluators.scoring.base import Score, tied
from foundation.errors import SettingError, SpaceError
from search_spaces.language.genotype import Genotype, Label
from search_spaces.mixture.conditions import Genes
from search_spaces.network.additive_cost import Total

DRAWS = 512
BEGINNINGS = 6
PAIRS = 2000
WARMTH = (1.0, 2.0, 4.0)
"""How many candidates are drawn, from how many the repair climbs, how many pairs of changes it tries in the
end, and the temperatures that candidates are drawn at."""

FAR = float("-inf")


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


Answers: TypeAlias = Mapping[str, Label]


def answered(genes: Genes, known: Answers, shares: Tensor) -> Genotype:
    """The genotype of these answers, and of the largest shares elsewhere; perhaps it is not allowed."""

    def answer(path: str, labels: tuple[Label, ...]) -> Label:
        return known[path] if path in known else largest(genes, path, shares)

    return genes.space.draw(answer)[0]


def largest(genes: Genes, path: str, shares: Tensor) -> Label:
    """The label of the largest share of a gene."""
    gene = genes.gene(path)
    return gene.labels[int(shares[genes.slice(gene)].argmax())]


def by_magnitude(genes: Genes, shares: Tensor, *, seed: int = 0) -> Genotype:
    """The options of the largest shares; where they are not allowed together, the likeliest that are.

    Raises:
        SpaceError: no allowed architecture was found.
    """
    return repaired(genes, shares, (), seed=seed).genotype


def likelihood(genes: Genes, shares: Tensor, genotype: Genotype) -> float:
    """The logarithm of the chance of a genotype."""
    total = 0.0
    for path, label in genotype.genes.items():
        share = float(shares[genes.start[path] + genes.index(genes.gene(path), label)])
        total += math.log(share) if share > 0 else -1e9
    return total


def repaired(genes: Genes, shares: Tensor, targets: Sequence[Target], *, seed: int = 0) -> Choice:
    """The likeliest allowed architecture that was found within the tolerance of every target.

    It looks from the largest shares and from random draws, changing one or two answers at a time.
    Where none meets the targets, the one that comes nearest: look at its `excess`.

    Raises:
        SpaceError: no allowed architecture was found.
    """
    shares, dice = shares.detach().double(), Random(f"{seed}/repair")
    start = _judged(genes, shares, targets, [answered(genes, {}, shares)])
    if start and start[0].excess == 0.0:
        return start[0]
    draws = [_drawn(genes, shares, dice, WARMTH[i % len(WARMTH)]) for i in range(DRAWS)]
    found = start + _judged(genes, shares, targets, draws)
    if not found:
        raise SpaceError(f"{genes.space.name}: none of {DRAWS} likely architectures is allowed")
    beginnings = dict.fromkeys([*start, *sorted(found, key=_order)[:BEGINNINGS]])
    best = min((_climbed(genes, shares, targets, choice) for choice in beginnings), key=_order)
    if targets:  # two answers at once may keep a cost where one cannot
        near = _neighbours(genes, shares, best.genotype)
        pairs = [other for one in near for other in _neighbours(genes, shares, one)]
        pairs = dice.sample(pairs, min(PAIRS, len(pairs)))
        better = min([best, *_judged(genes, shares, targets, pairs)], key=_order)
        best = _climbed(genes, shares, targets, better)
    return best


def _climbed(genes: Genes, shares: Tensor, targets: Sequence[Target], choice: Choice) -> Choice:
    """Change one answer at a time while that helps."""
    while True:
        near = _judged(genes, shares, targets, _neighbours(genes, shares, choice.genotype))
        better = min(near, key=_order, default=choice)
        if _order(better) >= _order(choice):
            return choice
        choice = better


def _order(choice: Choice) -> tuple[float, float]:
    return choice.excess, -choice.likelihood


def _neighbours(genes: Genes, shares: Tensor, genotype: Genotype) -> list[Genotype]:
    return [
        answered(genes, {**genotype.genes, path: other}, shares)
        for path in genotype.genes
        for other in genes.gene(path).labels
        if other != genotype.genes[path] or type(other) is not type(genotype.genes[path])
    ]


def _drawn(genes: Genes, shares: Tensor, dice: Random, warmth: float) -> Genotype:
    def answer(path: str, labels: tuple[Label, ...]) -> Label:
        chances = shares[genes.slice(genes.gene(path))] ** (1 / warmth)
        return dice.choices(labels, chances.clamp_min(1e-12).tolist())[0]

    return genes.space.draw(answer)[0]


def _judged(
    genes: Genes, shares: Tensor, targets: Sequence[Target], genotypes: Iterable[Genotype]
) -> list[Choice]:
    """The allowed ones among these, with their costs."""
    kept, specs = list[Genotype](), list[Any]()
    for genotype in dict.fromkeys(genotypes):
        spec = genes.space.draw(partial(_replayed, genotype.genes))[1]
        if genes.space.objection(spec) is None:
            kept.append(genotype)
            specs.append(spec)
    if not kept:
        return []
    totals = {target.name: list(map(float, target.total(specs))) for target in targets}
    choices = []
    for i, genotype in enumerate(kept):
        costs = {name: values[i] for name, values in totals.items()}
        excess = sum(
            max(0.0, abs(costs[target.name] / target.value - 1) - target.tolerance) for target in targets
        )
        choices.append(Choice(genotype, costs, excess, likelihood(genes, shares, genotype)))
    return choices


def _replayed(known: Answers, path: str, labels: tuple[Label, ...]) -> Label:
    return known[path]


def by_perturbation(
    genes: Genes,
    logits: Tensor,
    loss: Callable[[Tensor], float],
    *,
    seed: int = 0,
    tune: Callable[[Tensor], None] | None = None,
) -> dict[str, Label]:
    """Decide questions one by one, outer ones before those inside them, otherwise in random order.

    `loss` scores a mixture by its shares. After each decision `tune` may let the weights get used to the
    decided logits. Returns the answers to all questions that were asked.
    """
    dice, decided = Random(f"{seed}/perturbation"), dict[str, Label]()
    logits = logits.detach().clone()
    while True:
        shares = genes.shares(logits)
        asked = answered(genes, decided, shares).genes
        waiting = [path for path in asked if path not in decided]
        if not waiting:
            return {path: decided[path] for path in asked}
        path = dice.choice([path for path in waiting if not _inside_any(path, waiting)])
        gene = genes.gene(path)
        where = genes.slice(gene)
        losses = []
        for option in range(len(gene.labels)):
            without = logits.clone()
            without[where][option] = FAR
            losses.append(loss(genes.shares(without)) if len(gene.labels) > 1 else 0.0)
        kept = max(range(len(losses)), key=losses.__getitem__)
        decided[path] = gene.labels[kept]
        logits[where] = FAR
        logits[where.start + kept] = 0.0
        if tune is not None:
            tune(logits)


def _inside_any(path: str, others: Sequence[str]) -> bool:
    return any(path != other and path.startswith((f"{other}:", f"{other}.")) for other in others)


def decided_by_score(
    genes: Genes,
    genotype: Genotype,
    open_paths: Iterable[str],
    score: Callable[[Any], Score],
    price: Callable[[Any], float],
) -> Genotype:
    """Answer the questions that no mixture sees, one after the other, by scoring each option.

    The option of the best score wins; of those that are tied with it, the cheapest by `price`.
    """
    space, answers = genes.space, dict(genotype.genes)
    for path in open_paths:
        if path not in answers:
            continue
        tried = []
        for label in genes.gene(path).labels:
            other = answered(genes, {**answers, path: label}, torch.zeros(genes.size))
            spec = space.close(other)
            tried.append((score(spec), price(spec), label))
        best = min(tried, key=lambda entry: entry[0].value)
        alike = [entry for entry in tried if tied(entry[0].samples, best[0].samples)]
        answers[path] = min(alike, key=lambda entry: entry[1])[2]
    return Genotype(answers)
