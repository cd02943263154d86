"""What has been heard, and what follows: a model of every objective, and of what can be scored at all.

Everything is a function of the set of outcomes, whatever the order in which they came: outcomes are sorted by
trial number, and weights are fitted, and posteriors formed, when their number passes fixed marks. So a search
that was stopped, and heard all outcomes again, believes what it believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.pareto import nondominated
from nas.strategies.surrogate.encoding import Encoding, Rows
from nas.strategies.surrogate.features import Featurizer
from nas.strategies.surrogate.kernels import Kernels, Similarities
from nas.strategies.surrogate.model import FITTED, Posterior, fitted_weights, rank_correlation

Array = NDArray[np.float64]

CENTRES = 256
"""Candidates that predictions rest on."""

POINTS = 2000
"""Outcomes that a posterior takes in."""

OUTLYING = 10.0
"""Values are cut off so many quartile ranges beyond the worse quartile: one that diverged is just bad."""

REFIT = 1.25
"""Weights are fitted again after so many times the outcomes of the last time."""

LEAST = 8
"""Outcomes of which some can be said to be predicted."""


@dataclass(frozen=True)
class Heard:
    """The outcomes of N candidates: their rows (N, G), K values each (nan where there is none), errors."""

    numbers: NDArray[np.int64]
    rows: Rows
    scored: NDArray[np.bool_]
    values: Array
    errors: Array

    def take(self, which: NDArray[np.int64]) -> Heard:
        """Those of some candidates."""
        return Heard(
            self.numbers[which], self.rows[which], self.scored[which], self.values[which], self.errors[which]
        )

    def ranked(self) -> NDArray[np.int64]:
        """The indices of scored candidates, front by front; those behind the first hundred as they came."""
        left = np.flatnonzero(self.scored)
        ranked: list[NDArray[np.int64]] = []
        while len(left) and sum(map(len, ranked)) < FRONTS:
            best = np.array(nondominated(self.values[left]), dtype=bool)
            ranked.append(left[best])
            left = left[~best]
        return np.concatenate([*ranked, left]) if ranked else left

    def chosen(self, count: int) -> NDArray[np.int64]:
        """At most so many indices: half of them the best, the others spread evenly over the rest."""
        if len(self.numbers) <= count:
            return np.arange(len(self.numbers))
        best = self.ranked()[: count // 2]
        rest = np.setdiff1d(np.arange(len(self.numbers)), best)
        spread = rest[np.linspace(0, len(rest) - 1, count - len(best)).astype(np.int64)]
        return np.sort(np.concatenate((best, spread)))


FRONTS = 100
"""Candidates that are told apart by rank."""


@dataclass(frozen=True)
class Scale:
    """How values of K objectives become ones of mean zero and variance one."""

    mean: Array
    spread: Array
    most: Array

    @classmethod
    def of(cls, values: Array) -> Scale:
        """The scale of values (N, K), of which some may be nan."""
        low, high = np.nanquantile(values, (0.25, 0.75), axis=0)
        most = high + OUTLYING * np.maximum(high - low, 1e-12)
        cut = np.minimum(values, most)
        spread = np.nanstd(cut, axis=0)
        return cls(np.nanmean(cut, axis=0), np.where(spread > 0, spread, 1.0), most)

    def __call__(self, values: Array) -> Array:
        """The values on this scale."""
        scaled: Array = (np.minimum(values, self.most) - self.mean) / self.spread
        return scaled


@dataclass(frozen=True)
class Model:
    """The beliefs about K objectives; `skill` is how each value's rank is predicted without it (Spearman)."""

    featurizer: Featurizer
    kernels: Kernels
    scale: Scale
    posteriors: tuple[Posterior, ...]
    viability: Posterior | None
    skill: tuple[float, ...]
    means: dict[int, Array]  # by trial number, of what has errors: what is believed of its values

    def similarities(self, rows: Rows) -> Similarities:
        """Those of candidates to the model's centres."""
        return self.kernels(self.featurizer(rows))

    def predict(self, points: Similarities) -> tuple[Array, Array]:
        """Scaled means and standard deviations: (N, K) each."""
        predicted = [posterior.predict(points) for posterior in self.posteriors]
        return np.stack([p[0] for p in predicted], 1), np.stack([p[1] for p in predicted], 1)

    def viable(self, points: Similarities) -> Array:
        """The share of candidates like these that could be scored: (N,)."""
        if self.viability is None:
            return np.ones(len(points.own[0]))
        return np.clip(self.viability.predict(points)[0] + 0.5, 0.01, 1.0)

    def given(self, points: Similarities) -> Model:
        """The model once these candidates have the values that are expected of them."""
        posteriors = tuple(posterior.given(points) for posterior in self.posteriors)
        return Model(
            self.featurizer, self.kernels, self.scale, posteriors, self.viability, self.skill, self.means
        )


class Learner:
    """Makes models of what was heard, and keeps the last."""

    def __init__(self, encoding: Encoding) -> None:
        self._featurizer = Featurizer(encoding)
        self._weights: tuple[tuple[int, ...], list[Array]] = ((), [])
        self._model: tuple[tuple[int, ...], Model | None] = ((), None)

    def model(self, heard: Heard) -> Model | None:
        """The model of the outcomes up to the last mark; None where too few could be scored."""
        count = len(heard.numbers)
        heard = heard.take(np.arange(count - count % max(1, count // 100)))
        known = tuple(heard.numbers.tolist())
        if self._model[0] != known:
            self._model = known, self._formed(heard)
        return self._model[1]

    def _formed(self, heard: Heard) -> Model | None:
        if heard.scored.sum() < LEAST:
            return None
        weights = self._fitted(heard)
        heard = heard.take(heard.chosen(POINTS))
        scale = Scale.of(heard.values)
        features = self._featurizer(heard.rows)
        kernels = Kernels(features.take(heard.chosen(CENTRES)), repeats=self._featurizer.repeats)
        centres, points = kernels(kernels.centres), kernels(features)
        posteriors, skill = [], []
        means = np.array(scale(heard.values))
        for k, target in enumerate(_targets(heard, len(weights) > heard.values.shape[1])):
            which = np.isfinite(target.values)
            posterior, without, fitted = Posterior.of(
                centres, points.take(which), target.values[which], target.errors[which], weights[k]
            )
            posteriors.append(posterior)
            if k < means.shape[1]:
                skill.append(rank_correlation(without, target.values[which]))
                means[which, k] = np.where(target.errors[which] > 0, fitted, means[which, k])
        believed = dict(zip(heard.numbers.tolist(), means, strict=True)) if heard.errors.any() else {}
        objectives = heard.values.shape[1]
        viability = posteriors[objectives] if len(posteriors) > objectives else None
        return Model(
            self._featurizer,
            kernels,
            scale,
            tuple(posteriors[:objectives]),
            viability,
            tuple(skill),
            believed,
        )

    def _fitted(self, heard: Heard) -> list[Array]:
        """The weights of every target, fitted on the outcomes up to the last of few marks."""
        mark = float(LEAST)
        while round(mark * REFIT) <= len(heard.numbers):
            mark *= REFIT
        early = heard.take(np.arange(round(mark)))
        if early.scored.sum() < LEAST:
            early = heard
        doubtful = not heard.scored.all()
        known = (doubtful, *early.numbers.tolist())
        if self._weights[0] != known:
            early = early.take(early.chosen(FITTED))
            features = self._featurizer(early.rows)
            between = Kernels(features, repeats=self._featurizer.repeats)(features).between
            weights = []
            for target in _targets(early, doubtful):
                which = np.flatnonzero(np.isfinite(target.values))
                own = between[:, which[:, None], which[None, :]]
                weights.append(fitted_weights(own, target.values[which], target.errors[which]))
            self._weights = known, weights
        return self._weights[1]


@dataclass(frozen=True)
class _Target:
    """What one model predicts of N candidates; nan where it is not known."""

    values: Array
    errors: Array


def _targets(heard: Heard, doubtful: bool) -> Sequence[_Target]:
    """The objectives, and, where that is `doubtful`, whether a candidate could be scored."""
    scale = Scale.of(heard.values)
    values = scale(heard.values)
    errors = heard.errors / scale.spread
    targets = [_Target(values[:, k], errors[:, k]) for k in range(values.shape[1])]
    if doubtful:
        targets.append(_Target(np.where(heard.scored, 0.5, -0.5), np.zeros(len(heard.scored))))
    return targets
