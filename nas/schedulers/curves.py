"""Learning curves: what a candidate would score after a whole training, with an error, from its score so far.

A score falls by a law that all candidates of a search share, and differs from it by a power law of its own:

    y(s) = b(s) + e + r (sqrt(S / s) - 1) + noise S / s        (e, r) ~ Normal(0, C)

with S the steps of a whole training, b the mean curve, e by how much a candidate will end beside it, and r
how much more than the others it has to learn. Nothing is assumed of the mean curve where candidates were
looked at (a warm-up and a cool-down are parts of it); beyond, it goes on by the same law. Mean curve,
covariance and noise are those under which the curves so far are likely (expectation maximisation of a linear
mixed model, Laird & Ware 1982, doi:10.2307/2529876, with weak priors), so that the mean of later steps is not
taken for better because only the best were trained so long. Early looks are noisier, because the law sets in
late.

How it was chosen, and how well it predicts, is in docs/decisions/0054. Errors are widened by how far
predictions of this search were off: each curve's last score is predicted from those before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ITERATIONS = 25
PRIOR = 4.0
"""Weight of the prior covariance, in curves."""

LAW = 1.0
"""Weight of the law in the mean curve, in looks: where few were looked at, it says more than they do."""

BEYOND = 0.5
"""One standard deviation of the law's fall from the last look to the end, while none was trained so far."""

TRUST = 8.0
"""Predictions that say as much about how far errors are off as there being nothing wrong with them."""


class LearningCurves:
    """Scores of candidates after some steps, and what each would be after `full` steps."""

    def __init__(self, full: int) -> None:
        self.full = full
        self._curves: dict[int, dict[int, float]] = {}
        self._finals: dict[int, tuple[float, float]] | None = None
        self._promises: dict[int, dict[int, float]] = {}
        self._model: _Model | None = None
        self._next_fit = 0
        self.fits = 0
        """How often the model was fitted: predictions of all candidates change with it."""

    def add(self, candidate: int, scores: Mapping[int, float]) -> None:
        """A candidate has these scores, by steps."""
        self._curves.setdefault(candidate, {}).update(scores)
        self._finals = None
        self._promises.clear()

    def final(self, candidate: int) -> tuple[float, float]:
        """The score after `full` steps and its standard error; the error is 0 where that was measured."""
        scores = self._curves[candidate]
        if self.full in scores:
            return scores[self.full], 0.0
        if self._finals is None:
            self._finals = self._predicted()
        return self._finals[candidate]

    def promised(self, candidate: int, steps: int) -> float:
        """The score after `full` steps as its scores of up to `steps` promise it, whatever came of it since.

        So candidates that were trained further are compared with those that were not: predictions of all may
        be too high or too low by the same amount, beside which a measured score would win or lose.
        """
        if steps not in self._promises:
            self._promises[steps] = dict(zip(self._curves, self._up_to(steps), strict=True))
        return self._promises[steps][candidate]

    def _up_to(self, steps: int) -> list[float]:
        table = self._fitted()
        assert self._model is not None
        return self._model.promises(table, steps / self.full).tolist()

    def _predicted(self) -> dict[int, tuple[float, float]]:
        table = self._fitted()
        assert self._model is not None
        means, errors = self._model.finals(table)
        return dict(zip(self._curves, zip(means.tolist(), errors.tolist(), strict=True), strict=True))

    def _fitted(self) -> _Table:
        """The curves, with a model of most of them."""
        table = _Table(self._curves, self.full)
        looks = int(table.looks.sum())
        if self._model is None or looks >= self._next_fit or len(table.share) != len(self._model.mean):
            self._model, self._next_fit = _Model(table), looks + 1 + looks // 16
            self.fits += 1
        return table


class _Table:
    """Curves as arrays [N, K] over the K steps at which any was looked at, the last of which is the end."""

    def __init__(self, curves: Mapping[int, Mapping[int, float]], full: int) -> None:
        steps = sorted({step for scores in curves.values() for step in scores} | {full})
        column = {step: k for k, step in enumerate(steps)}
        self.scores = np.zeros((len(curves), len(steps)))
        self.there = np.zeros(self.scores.shape, dtype=bool)
        for i, scores in enumerate(curves.values()):
            at = [column[step] for step in scores]
            self.scores[i, at], self.there[i, at] = list(scores.values()), True
        self.looks = self.there.sum(0)
        self.curves = len(curves)
        self.share = np.array(steps) / full
        self.features = np.stack([np.ones(len(steps)), self.share**-0.5 - 1], axis=-1)
        self.weights = self.there * self.share**2
        self.last = self.there.shape[1] - 1 - self.there[:, ::-1].argmax(1)

    @property
    def spread(self) -> float:
        """The standard deviation between candidates that were looked at equally far, at their last look."""
        ends = self.scores[np.arange(self.curves), self.last]
        groups = [ends[self.last == k] for k in np.unique(self.last)]
        largest = max(groups, key=len)
        return max(float(np.std(largest)), 1e-9 + 1e-3 * float(np.abs(ends).max()))

    def squares(self, weights: Floats) -> Floats:
        """Z'WZ of each curve, [N, 2, 2]."""
        found: Floats = np.einsum("nk,ki,kj->nij", weights, self.features, self.features)
        return found

    def products(self, weights: Floats, mean: Floats) -> Floats:
        """Z'W (y - b) of each curve, [N, 2]."""
        found: Floats = (weights * (self.scores - mean)) @ self.features
        return found


class _Model:
    """The mean curve [K], covariance of (e, r), variance of the noise, and the factor on errors."""

    def __init__(self, table: _Table) -> None:
        spread, seen = table.spread, table.looks > 0
        furthest = max(float(table.features[seen, 1].max()), 1e-3)
        prior = np.diag([spread**2, (spread / furthest) ** 2])
        self.covariance, self.noise = prior, (0.1 * spread) ** 2
        self.mean = (table.scores * table.there).sum(0) / np.maximum(table.looks, 1)
        squares = table.squares(table.weights)
        for _ in range(ITERATIONS):
            own, covariances = self._posterior(table, table.weights)
            apart = own @ table.features.T
            self.mean = self._mean_curve(table, ((table.scores - apart) * table.there).sum(0))
            summed = own.T @ own + covariances.sum(0) + PRIOR * prior
            self.covariance = summed / (table.curves + PRIOR)
            rest = (table.weights * (table.scores - self.mean - apart) ** 2).sum()
            rest += np.einsum("nij,nij->", squares, covariances)
            self.noise = (float(rest) + 2 * (0.02 * spread) ** 2) / (float(table.looks.sum()) + 2)
        self.widening = self._widening(table)

    def finals(self, table: _Table) -> tuple[Floats, Floats]:
        """The score after a whole training and its standard error, of each curve [N]."""
        own, covariances = self._posterior(table, table.weights)
        ended = table.looks[-1]
        common = (float(covariances[:, 0, 0].mean()) + self.noise) / (1 + ended)
        before = np.flatnonzero(table.looks > ended)
        if len(before):
            common += (BEYOND * float(self.mean[before[-1]] - self.mean[-1])) ** 2 / (1 + ended)
        variance = covariances[:, 0, 0] + self.noise + common
        return self.mean[-1] + own[:, 0], self.widening * np.sqrt(variance)

    def promises(self, table: _Table, share: float) -> Floats:
        """The score after a whole training by the looks of up to this share of it, of each curve [N]."""
        own, _ = self._posterior(table, table.weights * (table.share <= share))
        return self.mean[-1] + own[:, 0]

    def _mean_curve(self, table: _Table, sums: Floats) -> Floats:
        """Means at the steps of the looks, drawn to the law where these are few; the law where none is."""
        seen = table.looks > 0
        means = sums[seen] / table.looks[seen]
        weights = np.sqrt(table.looks[seen]) * table.share[seen]
        law = np.polyfit(table.features[seen, 1], means, min(1, len(means) - 1), w=weights)
        curve: Floats = (sums + LAW * np.polyval(law, table.features[:, 1])) / (table.looks + LAW)
        return curve

    def _posterior(self, table: _Table, weights: Floats) -> tuple[Floats, Floats]:
        """Means [N, 2] and covariances [N, 2, 2] of (e, r), by the looks that have a weight."""
        precision = table.squares(weights) / self.noise + np.linalg.inv(self.covariance)
        covariances = np.asarray(np.linalg.inv(precision), float)
        products = table.products(weights, self.mean)
        return np.einsum("nij,nj->ni", covariances, products / self.noise), covariances

    def _widening(self, table: _Table) -> float:
        """How far last scores were off what those before them said, in standard errors; at least 1."""
        several = np.flatnonzero(table.there.sum(1) > 1)
        if not len(several):
            return 1.0
        ends = table.last[several]
        before = table.weights.copy()
        before[several, ends] = 0.0
        own, covariances = self._posterior(table, before)
        at = table.features[ends]
        predicted = self.mean[ends] + (own[several] * at).sum(1)
        variance = ((covariances[several] @ at[..., None])[..., 0] * at).sum(1)
        variance = variance + self.noise / table.weights[several, ends]
        off = (table.scores[several, ends] - predicted) ** 2 / variance
        return math.sqrt(max(1.0, (float(off.sum()) + TRUST) / (len(several) + TRUST)))
