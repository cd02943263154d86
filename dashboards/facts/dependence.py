"""What one gene does to an objective, whatever else a network is: its partial dependence.

Every known network is given one and the same answer to the gene, in all layers that ask it, and the mean of
the objective is predicted; then the next answer (Friedman 2001, "Greedy function approximation", section
8.2). What the answer newly asks is answered at random. The error of a mean is that of the fit: means of
the models of all folds, by the jackknife that leaves out one fold at a time (Kott 2001, "The delete-a-group
jackknife"). Nothing is said where the models predict too little of networks that they have not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dashboards.facts.quantities import Quantity
from dashboards.facts.surrogate import FOLDS, Surrogate, filled, gene_groups, predicted
from foundation.errors import SettingError
from foundation.text import listed
from nas.strategies.surrogate.encoding import SILENT, Rows, is_ordered
from search_spaces.language.genotype import Label

LEAST_EXPLAINED = 0.1
"""The share of an objective's variance that must be predicted of networks not seen."""

LEAST_ASKED = 10
"""Networks that have the gene at all."""

DRAWS = 4
"""Random answers to what is newly asked, for each network."""


@dataclass(frozen=True)
class DependencePoint:
    """An answer, the mean of the objective under it, its standard error, and how many networks have it."""

    label: Label
    mean: float
    error: float
    networks: int


@dataclass(frozen=True)
class DependenceFacts:
    """The answers to a gene in their order, over the `networks` that are asked it.

    `explained` of the objective's variance is predicted of networks not seen, with a standard error.
    `ordered` answers are numbers. Answers to more than one of `genes` are given in several layers at once.
    """

    gene: str
    of: Quantity
    points: tuple[DependencePoint, ...]
    networks: int
    explained: float
    explained_error: float
    ordered: bool
    genes: int


def genes_of(fitted: Surrogate) -> list[str]:
    """The genes, each of all layers together, that vary and have the same answers in every layer."""
    genes = fitted.encoding.genes
    groups = gene_groups(fitted.encoding, fitted.rows)
    return [n for n, columns in groups.items() if len({genes[c].labels for c in columns}) == 1]


def dependence(fitted: Surrogate, gene: str, objective: str, *, seed: int = 0) -> DependenceFacts:
    """The partial dependence of an objective on a gene.

    Raises:
        SettingError: there is no such gene or objective, too few networks have it, or it is badly predicted.
    """
    names = [of.name for of in fitted.objectives]
    if objective not in names:
        raise SettingError(f"{objective!r} is no objective of this study; there are {listed(names)}")
    if gene not in genes_of(fitted):
        raise SettingError(f"no gene {gene!r} varies among the networks of this study")
    k = names.index(objective)
    columns = list(gene_groups(fitted.encoding, fitted.rows)[gene])
    asked = (fitted.rows[:, columns] != SILENT).any(axis=1)
    _require_skill(fitted, k, int(asked.sum()))
    rows, chance = fitted.rows[asked], np.random.default_rng(seed)
    many = np.repeat(rows, DRAWS, axis=0)
    answered, given = filled(fitted.encoding, many, chance), many[:, columns] != SILENT
    labels, sign = fitted.encoding.genes[columns[0]].labels, -1.0 if fitted.objectives[k].maximise else 1.0
    points = []
    for index, label in enumerate(labels):
        changed = answered.copy()
        changed[:, columns] = np.where(given, index, changed[:, columns])
        means = _means(fitted, fitted.encoding.canonical(changed), k)
        error = float(np.sqrt((FOLDS - 1) / FOLDS * ((means - means.mean()) ** 2).sum()))
        having = int((rows[:, columns] == index).any(axis=1).sum())
        points.append(DependencePoint(label, sign * float(means.mean()), error, having))
    return DependenceFacts(
        gene,
        fitted.objectives[k],
        tuple(points),
        len(rows),
        float(fitted.explained[k]),
        float(fitted.explained_errors[k]),
        is_ordered(labels),
        len(columns),
    )


def _require_skill(fitted: Surrogate, k: int, asked: int) -> None:
    share, error = float(fitted.explained[k]), float(fitted.explained_errors[k])
    label = fitted.objectives[k].label
    if share < LEAST_EXPLAINED or share < 2 * error:
        raise SettingError(
            f"of the variance of {label} only {max(0.0, share):.0%} ± {error:.0%} is predicted in networks"
            f" that the model has not seen; what one gene does is told from {LEAST_EXPLAINED:.0%} on, and"
            " beyond two errors"
        )
    if asked < LEAST_ASKED:
        raise SettingError(
            f"only {asked} of the known networks have this gene; from {LEAST_ASKED} on it is told"
        )


def _means(fitted: Surrogate, rows: Rows, k: int) -> np.ndarray:
    """The mean of an objective over networks by the model of each fold, as a cost in its own unit."""
    return np.array(
        [
            float(predicted(model, rows)[:, k].mean() * model.scale.spread[k] + model.scale.mean[k])
            for model in fitted.models
        ]
    )
