"""Answers to the questions of a space, taken from the shares of a mixture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

from torch import Tensor

from search_spaces.language.genotype import Genotype, Label
from search_spaces.mixture.conditions import Genes

Answers: TypeAlias = Mapping[str, Label]


def answered(genes: Genes, answers: Answers, shares: Tensor) -> Genotype:
    """The genotype of these answers, and of the largest shares elsewhere; perhaps it is not allowed."""

    def answer(path: str, labels: tuple[Label, ...]) -> Label:
        return answers[path] if path in answers else largest(genes, path, shares)

    return genes.space.draw(answer)[0]


def largest(genes: Genes, path: str, shares: Tensor) -> Label:
    """The label of the largest share of a gene."""
    gene = genes.gene(path)
    return gene.labels[int(shares[genes.slice(gene)].argmax())]


def likelihood(genes: Genes, shares: Tensor, genotype: Genotype) -> float:
    """The logarithm of the chance of a genotype."""
    total = 0.0
    for path, label in genotype.genes.items():
        share = float(shares[genes.start[path] + genes.index(genes.gene(path), label)])
        total += math.log(share) if share > 0 else -1e9
    return total
