"""From shares to one architecture: by magnitude, by perturbation, or by scoring the options.

By magnitude, every question gets the option of the largest share. By perturbation (Wang et al. 2021,
arXiv:2108.04392), questions are decided in turn: the option whose removal from the mixture hurts the loss
most is kept. Whatever came out goes through the repair (`evaluators.differentiable.repair`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor

from evaluators.differentiable.answers import answered
from evaluators.differentiable.repair import repaired
from evaluators.scoring.base import Score, tied
from search_spaces.language.genotype import Genotype, Label
from search_spaces.mixture.conditions import Genes

REMOVED = float("-inf")
"""The logit of an option without a share."""


def by_magnitude(genes: Genes, shares: Tensor, *, seed: int = 0) -> Genotype:
    """The options of the largest shares; where they are not allowed together, the likeliest that are.

    Raises:
        SpaceError: no allowed architecture was found.
    """
    return repaired(genes, shares, (), seed=seed).genotype


def by_perturbation(
    genes: Genes,
    logits: Tensor,
    loss: Callable[[Tensor], float],
    *,
    seed: int = 0,
    tune: Callable[[Tensor], None] | None = None,
) -> dict[str, Label]:
    """Decide one question after the other, outer ones before those inside them, otherwise in random order.

    `loss` scores a mixture by its shares. After each decision `tune` may let the weights get used to the
    decided logits. Returns the answers to all questions that were asked.
    """
    dice, decided = Random(f"{seed}/perturbation"), dict[str, Label]()
    logits = logits.detach().clone()
    while True:
        asked = answered(genes, decided, genes.shares(logits)).genes
        waiting = [path for path in asked if path not in decided]
        if not waiting:
            return {path: decided[path] for path in asked}
        path = dice.choice([path for path in waiting if not _inside_any(path, waiting)])
        labels, places = genes.gene(path).labels, genes.slice(genes.gene(path))
        losses = _losses_without(genes, logits, loss, places) if len(labels) > 1 else [0.0]
        kept = max(range(len(losses)), key=losses.__getitem__)
        decided[path] = labels[kept]
        logits[places] = REMOVED
        logits[places.start + kept] = 0.0
        if tune is not None:
            tune(logits)


def _losses_without(
    genes: Genes, logits: Tensor, loss: Callable[[Tensor], float], places: slice
) -> list[float]:
    """The loss of the mixture without each of the options of a gene, whose logits are at these places."""
    losses = []
    for place in range(places.start, places.stop):
        without = logits.clone()
        without[place] = REMOVED
        losses.append(loss(genes.shares(without)))
    return losses


def _inside_any(path: str, paths: Sequence[str]) -> bool:
    """Whether a question is asked only inside an option of another one of these."""
    return any(path != outer and path.startswith((f"{outer}:", f"{outer}.")) for outer in paths)


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
            spec = space.close(answered(genes, {**answers, path: label}, torch.zeros(genes.size)))
            tried.append((score(spec), price(spec), label))
        best = min(tried, key=lambda entry: entry[0].value)
        alike = [entry for entry in tried if tied(entry[0].samples, best[0].samples)]
        answers[path] = min(alike, key=lambda entry: entry[1])[2]
    return Genotype(answers)
