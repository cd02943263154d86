"""A Gaussian process whose kernel is a weighted sum of given similarities.

    f ~ GP(0, sum_p w_p k_p)        y_i = f(x_i) + noise_i,   Var noise_i = w_noise + error_i^2

The weights maximise the marginal likelihood times a wide log-normal prior (Rasmussen and Williams 2006,
section 5.4.1), on at most `FITTED` points. Predictions rest on M centres by the fully independent training
conditional (Snelson and Ghahramani 2006, NIPS): O(N M^2), the exact process where every point is a centre.
What the centres do not explain stays in the variance.

Shapes: P kinds of similarity, N points, M centres.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.stats import rankdata

from nas.strategies.surrogate.kernels import Similarities

Array = NDArray[np.float64]

FITTED = 160
"""Points on which weights are fitted."""

JITTER = 1e-5
PRIOR_SPREAD = 2.0
"""Standard deviation of the logarithm of a weight."""

NOISE = 0.02
"""Prior median of the variance of noise; values have variance one."""

STEPS = 40


def fitted_weights(
    similarities: Array, values: Array, errors: Array, *, start: Array | None = None, steps: int = STEPS
) -> tuple[Array, float]:
    """The weights of the similarities (P, N, N), and the noise's behind them: (P + 1,); and the log evidence.

    `values` (N,) should have variance one; `errors` (N,) are their standard errors. `start` are weights to
    begin with.
    """
    kinds = len(similarities)
    centre = expected_logs(kinds)

    def cost(logs: Array) -> tuple[float, Array]:
        against, slopes, _ = unlikeliness(similarities, values, errors, np.exp(logs))
        away = (logs - centre) / PRIOR_SPREAD
        return against + 0.5 * float(away @ away), slopes + away / PRIOR_SPREAD

    bounds = [(mean - 4 * PRIOR_SPREAD, mean + 3 * PRIOR_SPREAD) for mean in centre]
    first = centre if start is None else np.log(start)
    found = minimize(cost, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps})
    return np.exp(found.x), -float(found.fun)


def expected_logs(kinds: int) -> Array:
    """The logarithms of the weights of similarities and of noise that the prior expects: (P + 1,)."""
    return np.log(np.append(np.full(kinds, 1 / kinds), NOISE))


def unlikeliness(
    similarities: Array, values: Array, errors: Array, weights: Array
) -> tuple[float, Array, Array]:
    """Less the log evidence, how that rises with each log weight, and with the covariance: (N, N)."""
    covariance = np.tensordot(weights[:-1], similarities, 1)
    covariance[np.diag_indices_from(covariance)] += weights[-1] + errors**2 + JITTER
    lower = cholesky(covariance, lower=True, check_finite=False)
    inverse = cho_solve((lower, True), np.eye(len(values)), check_finite=False)
    alpha = inverse @ values
    slack = 0.5 * (inverse - np.outer(alpha, alpha))
    slopes = np.append(np.tensordot(similarities, slack, 2), np.trace(slack)) * weights
    return 0.5 * float(values @ alpha) + float(np.log(np.diag(lower)).sum()), slopes, slack


@dataclass(frozen=True)
class Posterior:
    """What is believed of one objective after N values."""

    weights: Array
    lower: Array  # of the covariance of the centres, (M, M)
    precision: Array  # lower factor of that of the M coefficients
    coefficients: Array  # (M,)

    @classmethod
    def of(
        cls, centres: Similarities, points: Similarities, values: Array, errors: Array, weights: Array
    ) -> tuple[Posterior, Array, Array]:
        """The posterior, and each point's value as it is predicted without it, and with it: (N,) each."""
        covariance = np.tensordot(weights[:-1], centres.between, 1)
        covariance[np.diag_indices_from(covariance)] += JITTER
        lower = cholesky(covariance, lower=True, check_finite=False)
        phi = _coordinates(points, weights, lower)
        rest = np.maximum(weights[:-1] @ points.own - np.einsum("nm,nm->n", phi, phi), 0)
        noise = weights[-1] + errors**2 + rest + JITTER
        scaled = phi / noise[:, None]
        precision = cholesky(np.eye(len(lower)) + scaled.T @ phi, lower=True, check_finite=False)
        coefficients = cho_solve((precision, True), scaled.T @ values, check_finite=False)
        leverage = (solve_triangular(precision, phi.T, lower=True, check_finite=False) ** 2).sum(axis=0)
        leverage = np.minimum(leverage / noise, 1 - 1e-9)
        fitted = phi @ coefficients
        without = values - (values - fitted) / (1 - leverage)
        return cls(weights, lower, precision, coefficients), without, fitted

    def given(self, points: Similarities) -> Posterior:
        """The posterior once these points have the values that are expected of them: less is uncertain."""
        phi = _coordinates(points, self.weights, self.lower)
        scaled = phi / (self.weights[-1] + JITTER)
        total = self.precision @ self.precision.T + scaled.T @ phi
        precision = cholesky(total, lower=True, check_finite=False)
        return Posterior(self.weights, self.lower, precision, self.coefficients)

    def predict(self, points: Similarities) -> tuple[Array, Array]:
        """Mean and standard deviation of the objective, without noise, at N points."""
        between = np.tensordot(self.weights[:-1], points.between, 1)
        known = np.einsum("nm,nm->n", between @ self._learned, between)
        variance = self.weights[:-1] @ points.own - known
        return between @ self._slope, np.sqrt(np.maximum(variance, 1e-9))

    @cached_property
    def _slope(self) -> Array:
        """The mean by similarities to the centres: (M,)."""
        slope: Array = solve_triangular(
            self.lower, self.coefficients, lower=True, trans=1, check_finite=False
        )
        return slope

    @cached_property
    def _learned(self) -> Array:
        """By how much the variance is less than it was before, as a form of similarities: (M, M)."""
        inverse = solve_triangular(self.lower, np.eye(len(self.lower)), lower=True, check_finite=False)
        left = solve_triangular(self.precision, inverse, lower=True, check_finite=False)
        learned: Array = inverse.T @ inverse - left.T @ left
        return learned


class Joint:
    """How uncertain one objective is at N points together, as one after another becomes known."""

    def __init__(self, shared: Array, own: Array, noise: float) -> None:
        self._shared, self._own, self._noise = shared, own, noise

    @classmethod
    def of(cls, posterior: Posterior, points: Similarities) -> Joint:
        """That of a posterior: what centres explain is shared, (N, N); the rest is a point's own, (N,)."""
        weights = posterior.weights
        phi = _coordinates(points, weights, posterior.lower)
        own = np.maximum(weights[:-1] @ points.own - np.einsum("nm,nm->n", phi, phi), 0)
        factor = solve_triangular(posterior.precision, phi.T, lower=True, check_finite=False)
        return cls(factor.T @ factor, own, float(weights[-1]) + JITTER)

    def narrowed(self, point: int) -> Array:
        """Observe a point: by which factor the standard deviation at each shrinks, (N,)."""
        before = self._shared.diagonal() + self._own + JITTER
        along = self._shared[:, point] / np.sqrt(before[point] + self._noise)
        self._shared = self._shared - np.outer(along, along)
        shrunk: Array = np.sqrt(np.maximum(1 - along**2 / before, 0))
        return np.maximum(shrunk, 1e-3)


def rank_correlation(predicted: Array, values: Array) -> float:
    """Spearman's of predictions and values: 1 where all values are equal, 0 where all predictions are."""
    ranks = rankdata(predicted), rankdata(values)
    spreads = [float(rank.std()) for rank in ranks]
    if min(spreads) == 0:
        return float(spreads[1] == 0)
    product = (ranks[0] - ranks[0].mean()) * (ranks[1] - ranks[1].mean())
    return float(product.mean()) / (spreads[0] * spreads[1])


def _coordinates(points: Similarities, weights: Array, lower: Array) -> Array:
    """The points in the basis of the centres: (N, M)."""
    between = np.tensordot(weights[:-1], points.between, 1)
    coordinates: Array = solve_triangular(lower, between.T, lower=True, check_finite=False).T
    return coordinates
