"""Scores at the next rung, predicted from those at this one, from costs and from genes.

A Gaussian process for each objective that training changes, on what is known of the candidates that were
trained further: so it learns which architectures begin fast and end badly, as narrow or wide ones may, which
no candidate's own curve says. Its kernel is a weighted sum of a constant, of linear ones of each objective
at this rung and of the genes, and of a squared-exponential one of the objectives; the weights maximise the
evidence (`nas.strategies.surrogate.model`). It is the discrepancy between fidelities of Kennedy and O'Hagan
2000, Biometrika 87, with the factor of the lower one among the weights.

Objectives that no training has changed are taken as known, and seen in logarithms where they are positive.

Shapes: N candidates, K objectives, D features of genes, P kernels.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from nas.strategies.surrogate.model import FITTED, JITTER, fitted_weights
from search_spaces.language.genotype import Genotype

Array = NDArray[np.float64]

LENGTH = 2.0
"""Length scale of the squared-exponential kernel, in standard deviations of the objectives."""

_NUMBER = re.compile(r"\d+")


def predicted(
    here: Array, genes: Sequence[Counter[str]], there: Array, known: NDArray[np.bool_]
) -> tuple[Array, Array]:
    """Means and standard deviations (N, K) at the next rung; those of the `known` are what they have there.

    `here` (N, K) is at this rung, `there` at the next one, of which the rows of the `known` (N,) count.
    """
    trained = np.flatnonzero(known)[-FITTED:]
    learned = np.flatnonzero((there[trained] != here[trained]).any(axis=0))
    means, errors = here.copy(), np.zeros(here.shape)
    similarities = _similarities(here, genes, learned)
    for objective in learned:
        means[:, objective], errors[:, objective] = _regressed(
            similarities, there[trained, objective], trained
        )
    means[known], errors[known] = there[known], 0.0
    return means, errors


def gene_counts(genotype: Genotype) -> Counter[str]:
    """How often each answer is given, and the sum of the logarithms of those that are numbers.

    Of each gene, and of all those together whose paths differ in nothing but whole numbers, as in a stack.
    """
    counts = Counter[str]()
    for path, label in genotype.genes.items():
        for place in {path, _NUMBER.sub("*", path)}:
            counts[f"{place}={label}"] += 1
            if isinstance(label, int | float) and not isinstance(label, bool):
                counts[f"{place}#"] += math.copysign(math.log1p(abs(label)), label)  # type: ignore[assignment]
    return counts


def _similarities(here: Array, genes: Sequence[Counter[str]], learned: NDArray[np.int64]) -> Array:
    """By each kernel, of all candidates to each other: (P, N, N)."""
    costs = [k for k in range(here.shape[1]) if k not in learned and (here[:, k] > 0).all()]
    values = here.copy()
    values[:, costs] = np.log(values[:, costs])
    values = _scaled(values)
    names = sorted({name for counts in genes for name in counts})
    features = _scaled(np.array([[counts[name] for name in names] for counts in genes], dtype=float))
    squares = (values**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * values @ values.T, 0)
    near = np.exp(-distances / (2 * LENGTH**2))
    linear = [np.outer(column, column) for column in values.T]
    return np.stack([np.ones(near.shape), near, *linear, features @ features.T / max(1, len(names))])


def _regressed(similarities: Array, values: Array, trained: NDArray[np.int64]) -> tuple[Array, Array]:
    """Mean and standard deviation (N,) of an objective that these have; noise is part of the latter."""
    mean, spread = float(values.mean()), max(float(values.std()), 1e-12)
    scaled = (values - mean) / spread
    between = similarities[:, :, trained]
    weights, _ = fitted_weights(between[:, trained], scaled, np.zeros(len(scaled)))
    kernel = np.tensordot(weights[:-1], between, 1)
    factor = cho_factor(kernel[trained] + np.eye(len(scaled)) * (weights[-1] + JITTER), lower=True)
    own = weights[:-1] @ similarities.diagonal(axis1=1, axis2=2)
    variance = own - np.einsum("nm,mn->n", kernel, cho_solve(factor, kernel.T)) + weights[-1]
    return mean + spread * (kernel @ cho_solve(factor, scaled)), spread * np.sqrt(np.maximum(variance, 1e-9))


def _scaled(columns: Array) -> Array:
    """Columns of mean zero and variance one; of one value, zero."""
    spread = columns.std(axis=0)
    scaled: Array = (columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return scaled
