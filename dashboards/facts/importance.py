"""Which genes matter for each objective: how much worse it is predicted when their answers are shuffled.

Permutation importance (Breiman 2001, Machine Learning 45, section 10; Fisher, Rudin and Dominici 2019, JMLR
20:177) on the Gaussian process that also proposes candidates. Every network is predicted by a model that has
not seen it; then the answers of one gene, in all layers together, are exchanged among those networks, and the
squared error grows. Its growth is told in variances of the objective: what a gene adds to the share that is
explained. Its error is the standard error over networks, so it does not hold what another fit would say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dashboards.facts.gene_rows import GeneRows
from dashboards.facts.quantities import Quantity
from dashboards.facts.reading import Reading
from nas.strategies.surrogate.encoding import SILENT, Encoding, Rows
from nas.strategies.surrogate.heard import Heard
from nas.strategies.surrogate.knowledge import Learner, Model

Array = NDArray[np.float64]

FOLDS = 4
SHUFFLES = 4
LEAST = 40
"""Networks below which nothing is said: a fold would hold fewer than ten."""

MOST = 300
"""Networks that are read: fitting takes a second or two."""

_NUMBER = re.compile(r"(?<![^.])\d+(?![^.:])")


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


def importance(reading: Reading, known: GeneRows, *, seed: int = 0) -> ImportanceFacts | None:
    """The importance of all genes that vary; None where too few networks are known."""
    costs = known.costs(reading)
    finite = np.isfinite(costs).all(axis=1)
    rows, costs = known.rows[finite], costs[finite]
    if len(rows) < LEAST:
        return None
    errors = np.column_stack([known.scored.columns[of.name].errors[finite] for of in reading.objectives])
    chance = np.random.default_rng(seed)
    groups = {name: columns for name, columns in grouped(known.encoding).items() if _varies(rows[:, columns])}
    folds = chance.permutation(len(rows)) % FOLDS
    base, grown = np.full(costs.shape, np.nan), np.full((len(groups), *costs.shape), np.nan)
    for fold in range(FOLDS):
        seen, unseen = folds != fold, folds == fold
        model = _model(known.encoding, rows[seen], costs[seen], np.nan_to_num(errors[seen]))
        if model is None:
            return None
        truth = model.scale(costs[unseen])
        base[unseen] = (_predicted(model, rows[unseen]) - truth) ** 2
        for place, columns in enumerate(groups.values()):
            shuffled = [
                (_predicted(model, _shuffled(known.encoding, rows[unseen], columns, chance)) - truth) ** 2
                for _ in range(SHUFFLES)
            ]
            grown[place, unseen] = np.mean(shuffled, axis=0) - base[unseen]
    means, spread = grown.mean(axis=1), grown.std(axis=1, ddof=1) / np.sqrt(len(rows))
    genes = [
        GeneImportance(name, tuple(means[i].tolist()), tuple(spread[i].tolist()))
        for i, name in enumerate(groups)
    ]
    genes.sort(key=lambda gene: -max(gene.means))
    explained = tuple((1 - base.mean(axis=0)).tolist())
    return ImportanceFacts(reading.objectives, explained, tuple(genes), len(rows), known.of)


def grouped(encoding: Encoding) -> Mapping[str, Sequence[int]]:
    """The columns of genes whose paths differ in nothing but whole numbers, as layers do."""
    groups: dict[str, list[int]] = {}
    for column, gene in enumerate(encoding.genes):
        groups.setdefault(_NUMBER.sub("*", gene.path), []).append(column)
    return groups


def _varies(rows: Rows) -> bool:
    return bool(len(rows)) and bool((rows != rows[0]).any())


def _model(encoding: Encoding, rows: Rows, costs: Array, errors: Array) -> Model | None:
    heard = Heard(
        np.arange(len(rows)),
        rows,
        np.ones(len(rows), np.bool_),
        costs,
        errors.astype(np.float64),
        np.zeros(costs.shape, np.bool_),
    )
    return Learner(encoding).model(heard)


def _predicted(model: Model, rows: Rows) -> Array:
    means: Array = model.predict(model.similarities(rows))[0]
    return means


def _shuffled(encoding: Encoding, rows: Rows, columns: Sequence[int], chance: np.random.Generator) -> Rows:
    """The rows with these answers of others; what a new branch asks is answered at random."""
    filled = np.where(rows == SILENT, encoding.random(len(rows), chance), rows).astype(np.int16)
    filled[:, columns] = filled[chance.permutation(len(rows))][:, columns]
    return encoding.canonical(filled)
