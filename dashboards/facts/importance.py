"""Which genes matter for each objective: how much worse it is predicted when their answers are shuffled.

Permutation importance (Breiman 2001, Machine Learning 45, section 10; Fisher, Rudin and Dominici 2019, JMLR
20:177) on the Gaussian process that also proposes candidates. Every network is predicted by a model that has
not seen it; then the answers of one gene, in all layers together, are exchanged among those networks, and the
squared error grows. Its growth is told in variances of the objective: what a gene adds to the share that is
explained. Its error is the standard error over networks, so it does not hold what another fit would say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dashboards.facts.quantities import Quantity
from dashboards.facts.surrogate import Surrogate, filled, gene_groups, predicted
from nas.strategies.surrogate.encoding import Encoding, Rows

SHUFFLES = 4


@dataclass(frozen=True)
class GeneImportance:
    """A gene, of all layers together, with its importance and standard error for each objective."""

    name: str
    means: tuple[float, ...]
    errors: tuple[float, ...]


@dataclass(frozen=True)
class ImportanceFacts:
    """Genes, the most important one first; `explained` is the share of each objective's variance.

    `networks` were predicted without having been seen, out of `of` scored ones.
    """

    objectives: tuple[Quantity, ...]
    explained: tuple[float, ...]
    genes: tuple[GeneImportance, ...]
    networks: int
    of: int


def importance(fitted: Surrogate, *, seed: int = 0) -> ImportanceFacts:
    """The importance of all genes that vary."""
    rows, chance = fitted.rows, np.random.default_rng(seed)
    groups = gene_groups(fitted.encoding, rows)
    grown = np.full((len(groups), *fitted.costs.shape), np.nan)
    for fold, model in enumerate(fitted.models):
        unseen = fitted.folds == fold
        truth = model.scale(fitted.costs[unseen])
        for place, columns in enumerate(groups.values()):
            shuffled = [
                (predicted(model, _shuffled(fitted.encoding, rows[unseen], columns, chance)) - truth) ** 2
                for _ in range(SHUFFLES)
            ]
            grown[place, unseen] = np.mean(shuffled, axis=0) - fitted.losses[unseen]
    means, spread = grown.mean(axis=1), grown.std(axis=1, ddof=1) / np.sqrt(len(rows))
    genes = [
        GeneImportance(name, tuple(means[i].tolist()), tuple(spread[i].tolist()))
        for i, name in enumerate(groups)
    ]
    genes.sort(key=lambda gene: -max(gene.means))
    return ImportanceFacts(
        fitted.objectives, tuple(fitted.explained.tolist()), tuple(genes), len(rows), fitted.of
    )


def _shuffled(encoding: Encoding, rows: Rows, columns: Sequence[int], chance: np.random.Generator) -> Rows:
    """The rows with these answers of others; what a new branch asks is answered at random."""
    answers = filled(encoding, rows, chance)
    answers[:, columns] = answers[chance.permutation(len(rows))][:, columns]
    return encoding.canonical(answers)
