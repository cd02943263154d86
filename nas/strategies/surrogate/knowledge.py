"""What has been heard, and what follows: a model of every objective, and of what can be scored at all.

Everything is a function of the set of outcomes, whatever the order in which they came: outcomes are sorted by
trial number, and weights are fitted, and posteriors formed, when their number passes fixed marks. So a search
that was stopped, and heard all outcomes again, believes what it believed. Of outcomes that were refined since
(`Strategy.refine`) weights are fitted to the values first told, and posteriors formed of the newest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.strategies.surrogate.encoding import Encoding, Rows
from nas.strategies.surrogate.features import Featurizer
from nas.strategies.surrogate.heard import Heard
from nas.strategies.surrogate.kernels import Kernels, Similarities
from nas.strategies.surrogate.model import FITTED, STEPS, Posterior, fitted_weights, rank_correlation
from nas.strategies.surrogate.warping import POWERS, Warp

Array = NDArray[np.float64]

CENTRES = 256
"""Candidates that predictions rest on."""

POINTS = 2000
"""Outcomes that a posterior takes in."""

OUTLYING = 10.0
"""Values are cut off so many quartile ranges beyond the worse quartile: one that diverged is just bad."""

REFIT = 1.25
"""Weights are fitted again after so many times the outcomes of the last time."""

FEWER_STEPS = 12
"""Of the fits beside the first."""

LEAST = 8
"""Outcomes of which some can be said to be predicted."""


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
    warps: tuple[Warp, ...]  # of the scaled values, one for each posterior
    viability: Posterior | None
    skill: tuple[float, ...]
    means: dict[int, Array]  # by trial number, of what has errors: what is believed of its values
    straight: Model | None = None  # the same on scales that are not bent, where this one's are

    def similarities(self, rows: Rows) -> Similarities:
        """Those of candidates to the model's centres."""
        return self.kernels(self.featurizer(rows))

    def predict(self, points: Similarities) -> tuple[Array, Array]:
        """Scaled means and standard deviations: (N, K) each."""
        pairs = zip(self.posteriors, self.warps, strict=True)
        predicted = [warp.straighten(*posterior.predict(points)) for posterior, warp in pairs]
        return np.stack([p[0] for p in predicted], 1), np.stack([p[1] for p in predicted], 1)

    def viable(self, points: Similarities) -> Array:
        """The share of candidates like these that could be scored: (N,)."""
        if self.viability is None:
            return np.ones(len(points.own[0]))
        return np.clip(self.viability.predict(points)[0] + 0.5, 0.01, 1.0)

    def given(self, points: Similarities) -> Model:
        """The model once these candidates have the values that are expected of them."""
        posteriors = tuple(posterior.given(points) for posterior in self.posteriors)
        return replace(self, posteriors=posteriors)


class Learner:
    """Makes models of what was heard, and keeps the last."""

    def __init__(self, encoding: Encoding) -> None:
        self._featurizer = Featurizer(encoding)
        self._fits: tuple[tuple[int, ...], list[_Fit]] = ((), [])
        self._model: tuple[tuple[Any, ...], Model | None] = ((), None)

    def model(self, heard: Heard, first: Heard | None = None) -> Model | None:
        """The model of the outcomes up to the last mark; None where too few could be scored.

        `first` are the same as first told, where some were refined since: what is fitted rests on these, so
        that it does not depend on when it was fitted.
        """
        count = len(heard.numbers)
        known_well = np.arange(count - count % max(1, count // 100))
        heard, first = heard.take(known_well), (first or heard).take(known_well)
        known = tuple(heard.numbers.tolist()), heard.values.tobytes(), heard.errors.tobytes()
        if self._model[0] != known:
            self._model = known, self._formed(heard, first)
        return self._model[1]

    def _formed(self, heard: Heard, first: Heard) -> Model | None:
        if heard.scored.sum() < LEAST:
            return None
        fits = self._fitted(first)
        heard = heard.reconciled()
        heard = heard.take(heard.chosen(POINTS))
        scale = Scale.of(heard.values)
        features = self._featurizer(heard.rows)
        kernels = Kernels(features.take(heard.chosen(CENTRES)), repeats=self._featurizer.repeats)
        centres, points = kernels(kernels.centres), kernels(features)
        objectives = heard.values.shape[1]
        targets = _targets(heard, len(fits) > objectives)
        powers = [fit.power for fit in fits[:objectives]] + [None] * (len(fits) - objectives)
        views = [
            _View.of(centres, points, target, fit.weights, power)
            for target, fit, power in zip(targets, fits, powers, strict=True)
        ]
        bent = views[:objectives]
        mine = heard.numbers >= 0
        means = np.array(scale(heard.values))
        for k, view in enumerate(bent):
            means[view.known, k] = np.where(
                targets[k].errors[view.known] > 0, view.fitted, means[view.known, k]
            )
        model = Model(
            self._featurizer,
            kernels,
            scale,
            tuple(view.posterior for view in bent),
            tuple(view.warp for view in bent),
            views[objectives].posterior if len(views) > objectives else None,
            tuple(view.skill(target, mine) for view, target in zip(bent, targets[:objectives], strict=True)),
            dict(zip(heard.numbers.tolist(), means, strict=True)) if heard.errors.any() else {},
        )
        if all(view.warp.power == 1 for view in bent):
            return model
        straight = [
            view if view.warp.power == 1 else _View.of(centres, points, target, fit.straight, 1.0)
            for view, target, fit in zip(bent, targets[:objectives], fits[:objectives], strict=True)
        ]
        posteriors, warps = (
            tuple(view.posterior for view in straight),
            tuple(view.warp for view in straight),
        )
        return replace(model, straight=replace(model, posteriors=posteriors, warps=warps))

    def _fitted(self, heard: Heard) -> list[_Fit]:
        """The fits of every target, made on the outcomes up to the last of few marks."""
        mark = float(LEAST)
        while round(mark * REFIT) <= len(heard.numbers):
            mark *= REFIT
        early = heard.take(np.arange(round(mark)))
        if early.scored.sum() < LEAST:
            early = heard
        doubtful = not heard.scored.all()
        known = (doubtful, *early.numbers.tolist())
        if self._fits[0] != known:
            early = early.reconciled()
            early = early.take(early.chosen(FITTED))
            features = self._featurizer(early.rows)
            between = Kernels(features, repeats=self._featurizer.repeats)(features).between
            fits = []
            for k, target in enumerate(_targets(early, doubtful)):
                which = np.flatnonzero(np.isfinite(target.values))
                own = between[:, which[:, None], which[None, :]]
                powers = POWERS if k < heard.values.shape[1] else (1.0,)
                fits.append(_fit(own, target.values[which], target.errors[which], powers))
            self._fits = known, fits
        return self._fits[1]


@dataclass(frozen=True)
class _Fit:
    """What is fitted to one target: the weights of similarities and noise, and the power of its scale.

    `straight` are the weights for the scale as it is.
    """

    weights: Array
    power: float
    straight: Array


def _fit(similarities: Array, values: Array, errors: Array, powers: Sequence[float]) -> _Fit:
    """The likeliest power with its weights; those of others are fitted only as far as it takes to tell."""
    found = []
    start: Array | None = None
    for power in sorted(powers, key=lambda power: abs(power - 1)):
        warp = Warp.of(power, values)
        bent, slope = warp.bend(values), warp.slope(values)
        steps = STEPS if start is None else FEWER_STEPS
        weights, evidence = fitted_weights(similarities, bent, errors * slope, start=start, steps=steps)
        start = weights if start is None else start
        found.append((evidence + float(np.log(slope).sum()), _Fit(weights, power, start)))
    return max(found, key=lambda pair: pair[0])[1]


@dataclass(frozen=True)
class _View:
    """What is believed of one target on a scale, and of the values that are `known`."""

    posterior: Posterior
    warp: Warp
    known: NDArray[np.bool_]  # (N,)
    without: Array  # of those known, each as predicted without it, on the bent scale
    fitted: Array  # and with it, on the straight one

    @classmethod
    def of(
        cls, centres: Similarities, points: Similarities, target: _Target, weights: Array, power: float | None
    ) -> _View:
        """The view of this power with these weights; without a power values are taken as they are."""
        known = np.isfinite(target.values)
        values, errors = target.values[known], target.errors[known]
        warp = Warp() if power is None else Warp.of(power, values)
        bent, slope = warp.bend(values), warp.slope(values)
        posterior, without, fitted = Posterior.of(centres, points.take(known), bent, errors * slope, weights)
        return cls(posterior, warp, known, without, warp.straighten(fitted, np.zeros(len(fitted)))[0])

    def skill(self, target: _Target, mine: NDArray[np.bool_]) -> float:
        """How each of this search's own values is ranked without it; of others' where there are too few."""
        judged = mine[self.known] if mine[self.known].sum() >= LEAST else np.ones_like(mine[self.known])
        return rank_correlation(self.without[judged], target.values[self.known][judged])


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
