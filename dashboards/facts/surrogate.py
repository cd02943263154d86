"""Models of the objectives of a study, each of networks that it has not seen: what tells about single genes.

The Gaussian process that also proposes candidates is fitted once for each fold, without the networks of the
fold, so that its predictions there say how well it predicts at all.
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

LEAST = 40
"""Networks below which nothing is said: a fold would hold fewer than ten."""

MOST = 300
"""Networks that are read: fitting takes a second or two."""

_NUMBER = re.compile(r"(?<![^.])\d+(?![^.:])")


@dataclass(frozen=True)
class Surrogate:
    """One model for each fold, of the networks outside of it: `rows` [networks, genes], `costs` [networks,
    objectives] where less is better, `folds` [networks]. `of` networks these were chosen among.

    `losses` [networks, objectives] are the squared errors of predictions of networks by the model that has
    not seen them, in variances.
    """

    objectives: tuple[Quantity, ...]
    encoding: Encoding
    models: tuple[Model, ...]
    rows: Rows
    costs: Array
    folds: NDArray[np.int64]
    losses: Array
    of: int

    @property
    def explained(self) -> Array:
        """The share of each objective's variance that is predicted of networks not seen: [objectives]."""
        share: Array = 1 - self.losses.mean(axis=0)
        return share

    @property
    def explained_errors(self) -> Array:
        """Their standard errors over networks."""
        spread: Array = self.losses.std(axis=0, ddof=1) / np.sqrt(len(self.losses))
        return spread


def surrogate(
    reading: Reading, known: GeneRows, chance: np.random.Generator | None = None
) -> Surrogate | None:
    """The models of a study; None where fewer than `LEAST` networks are known, or nothing can be fitted."""
    costs = known.costs(reading)
    finite = np.isfinite(costs).all(axis=1)
    rows, costs = known.rows[finite], costs[finite]
    if len(rows) < LEAST:
        return None
    errors = np.column_stack([known.scored.columns[of.name].errors[finite] for of in reading.objectives])
    chance = np.random.default_rng(0) if chance is None else chance
    folds = chance.permutation(len(rows)) % FOLDS
    models, losses = list[Model](), np.full(costs.shape, np.nan)
    for fold in range(FOLDS):
        seen, unseen = folds != fold, folds == fold
        model = _model(known.encoding, rows[seen], costs[seen], np.nan_to_num(errors[seen]))
        if model is None:
            return None
        models.append(model)
        losses[unseen] = (predicted(model, rows[unseen]) - model.scale(costs[unseen])) ** 2
    return Surrogate(reading.objectives, known.encoding, tuple(models), rows, costs, folds, losses, known.of)


def gene_groups(encoding: Encoding, rows: Rows) -> Mapping[str, Sequence[int]]:
    """The columns of genes whose paths differ in nothing but whole numbers, as layers do, if they vary."""
    groups = grouped(encoding)
    return {name: columns for name, columns in groups.items() if _varies(rows[:, columns])}


def grouped(encoding: Encoding) -> Mapping[str, Sequence[int]]:
    """The columns of genes whose paths differ in nothing but whole numbers, as layers do."""
    groups: dict[str, list[int]] = {}
    for column, gene in enumerate(encoding.genes):
        groups.setdefault(_NUMBER.sub("*", gene.path), []).append(column)
    return groups


def predicted(model: Model, rows: Rows) -> Array:
    """Scaled objectives of networks: [networks, objectives]."""
    means: Array = model.predict(model.similarities(rows))[0]
    return means


def filled(encoding: Encoding, rows: Rows, chance: np.random.Generator) -> Rows:
    """Rows with an answer to every gene: what a network is not asked is answered at random."""
    answered: Rows = np.where(rows == SILENT, encoding.random(len(rows), chance), rows).astype(np.int16)
    return answered


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
