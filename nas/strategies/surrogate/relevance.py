"""Which genes an objective depends on: the relevance of each, fitted with the weights of similarities.

A gene of relevance r counts r times where single genes, pairs of them and distances are compared (automatic
relevance determination; Rasmussen and Williams 2006, section 5.1). Few candidates say little of many genes,
so the logarithm of a relevance has a normal prior around 0: it stays there until the evidence is for more.

Shapes: G genes, P kinds of similarity, N points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from nas.strategies.surrogate.kernels import Kernels
from nas.strategies.surrogate.model import (
    PRIOR_SPREAD,
    STEPS,
    expected_logs,
    fitted_weights,
    unlikeliness,
)

Array = NDArray[np.float64]

SPREAD = 1.0
"""Standard deviation of the logarithm of a relevance."""

MOST_GENES = 160
"""In a space of more genes all have the same relevance: a fit would take longer than it helps."""


@dataclass(frozen=True)
class Weighed:
    """Weights of similarities and of noise (P + 1,), and relevances of genes (G,)."""

    weights: Array
    relevance: Array


def fitted(
    kernels: Kernels,
    gene: NDArray[np.int64],
    values: Array,
    errors: Array,
    *,
    start: Weighed | None = None,
    steps: int = STEPS,
) -> tuple[Weighed, float]:
    """The likeliest weights and relevances for values (N,) of the centres, and the log evidence of both.

    `gene` says of which gene each feature is. `start` is to begin with.
    """
    genes, weights = int(gene.max(initial=-1)) + 1, kernels.kinds + 1
    plain = kernels(kernels.centres)
    if genes > MOST_GENES:
        begun = None if start is None else start.weights
        alone, evidence = fitted_weights(plain.between, values, errors, start=begun, steps=steps)
        return Weighed(alone, np.ones(genes)), evidence
    middle = np.append(expected_logs(kernels.kinds), np.zeros(genes))
    spread = np.append(np.full(weights, PRIOR_SPREAD), np.full(genes, SPREAD))

    def cost(logs: Array) -> tuple[float, Array]:
        mine, relevance = np.exp(logs[:weights]), np.exp(logs[weights:])
        weighed = kernels.by(relevance[gene])
        similarities = weighed(kernels.centres, plain)
        against, slopes, slack = unlikeliness(similarities.between, values, errors, mine)
        rises = np.bincount(gene, weighed.slopes(similarities, mine, slack), genes)
        away = (logs - middle) / spread
        return against + 0.5 * float(away @ away), np.append(slopes, rises) + away / spread

    first = middle if start is None else np.log(np.append(start.weights, start.relevance))
    bounds = list(zip(middle - 4 * spread, middle + np.where(spread > SPREAD, 3, 4) * spread, strict=True))
    found = minimize(cost, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps})
    best = np.exp(found.x)
    return Weighed(best[:weights], best[weights:]), -float(found.fun)
