"""What has been heard, and what follows: a model of every objective, and of what can be scored at all.

Everything is a function of the set of outcomes, whatever the order in which they came: outcomes are sorted by
trial number, and weights are fitted, and posteriors formed, when their number passes fixed marks. So a search
that was stopped, and heard all outcomes again, believes what it believed. Of outcomes that were refined since
(`Strategy.refine`) weights are fitted to the values first told, and posteriors formed of the newest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nas.strategies.surrogate.encoding import Encoding, Rows
from nas.strategies.surrogate.features import Features, Featurizer
from nas.strategies.surrogate.heard import Heard
from nas.strategies.surrogate.kernels import Kernels, Similarities
from nas.strategies.surrogate.model import FITTED, STEPS, Posterior, rank_correlation
from nas.strategies.surrogate.relevance import Weighed, fitted
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


Points: TypeAlias = tuple[Similarities, ...]
"""Similarities of the same candidates, one for each kernel of a model."""


def _similarities(kernels: Sequence[Kernels], features: Features) -> Points:
    first = kernels[0](features)
    return (first, *(first if each is kernels[0] else each(features, first) for each in kernels[1:]))


@dataclass(frozen=True)
class Model:
    """The beliefs about K objectives; `skill` is how each value's rank is predicted without it (Spearman)."""

    featurizer: Featurizer
    kernels: tuple[Kernels, ...]  # by the relevances of each objective, and of whether it can be scored
    scale: Scale
    posteriors: tuple[Posterior, ...]
    warps: tuple[Warp, ...]  # of the scaled values, one for each posterior
    viability: Posterior | None
    skill: tuple[float, ...]
    means: dict[int, Array]  # by trial number, of what has errors: what is believed of its values
    unbent: Callable[[], Model] | None = None  # makes `straight`

    @cached_property
    def straight(self) -> Model | None:
        """The same on scales that are not bent, where this one's are."""
        return None if self.unbent is None else self.unbent()

    def similarities(self, rows: Rows) -> Points:
        """Those of candidates to the model's centres, by what each kernel finds relevant."""
        return _similarities(self.kernels, self.featurizer(rows))

    def predict(self, points: Points) -> tuple[Array, Array]:
        """Scaled means and standard deviations: (N, K) each."""
        each = zip(self.posteriors, self.warps, points[: len(self.warps)], strict=True)
        predicted = [warp.straighten(*posterior.predict(mine)) for posterior, warp, mine in each]
        return np.stack([p[0] for p in predicted], 1), np.stack([p[1] for p in predicted], 1)

    def viable(self, points: Points) -> Array:
        """The share of candidates like these that could be scored: (N,)."""
        if self.viability is None:
            return np.ones(len(points[0].own[0]))
        return np.clip(self.viability.predict(points[-1])[0] + 0.5, 0.01, 1.0)

    def given(self, points: Points) -> Model:
        """The model once these candidates have the values that are expected of them."""
        each = zip(self.posteriors, points[: len(self.posteriors)], strict=True)
        posteriors = tuple(posterior.given(mine) for posterior, mine in each)
        return replace(self, posteriors=posteriors)


class Learner:
    """Makes models of what was heard, and keeps the last."""

    def __init__(self, encoding: Encoding) -> None:
        self._featurizer = Featurizer(encoding)
        self._fits: tuple[tuple[Any, ...], list[_Fit]] = ((), [])
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
        objectives = heard.values.shape[1]
        targets = _targets(heard, len(fits) > objectives)
        sight = _Sight(kernels, features, self._featurizer.gene)
        views = [
            sight.view(target, fit.bent, fit.power if k < objectives else None)
            for k, (target, fit) in enumerate(zip(targets, fits, strict=True))
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
            tuple(view.kernels for view in views),
            scale,
            tuple(view.posterior for view in bent),
            tuple(view.warp for view in bent),
            views[objectives].posterior if len(views) > objectives else None,
            tuple(view.skill(target, mine) for view, target in zip(bent, targets[:objectives], strict=True)),
            dict(zip(heard.numbers.tolist(), means, strict=True)) if heard.errors.any() else {},
        )

        def unbent() -> Model:
            straight = [
                view if view.warp.power == 1 else sight.view(target, fit.straight, 1.0)
                for view, target, fit in zip(bent, targets[:objectives], fits[:objectives], strict=True)
            ]
            return replace(
                model,
                kernels=tuple(view.kernels for view in (*straight, *views[objectives:])),
                posteriors=tuple(view.posterior for view in straight),
                warps=tuple(view.warp for view in straight),
                unbent=None,
            )

        return model if all(view.warp.power == 1 for view in bent) else replace(model, unbent=unbent)

    def _fitted(self, heard: Heard) -> list[_Fit]:
        """The fits of every target, made on the outcomes up to the last of few marks."""
        mark = float(LEAST)
        while round(mark * REFIT) <= len(heard.numbers):
            mark *= REFIT
        early = heard.take(np.arange(round(mark)))
        if early.scored.sum() < LEAST:
            early = heard
        doubtful = not heard.scored.all()
        known = (doubtful, early.values.tobytes(), *early.numbers.tolist())
        if self._fits[0] != known:
            early = early.reconciled()
            early = early.take(early.chosen(FITTED))
            features = self._featurizer(early.rows)
            kernels = Kernels(features, repeats=self._featurizer.repeats)
            fits = []
            for k, target in enumerate(_targets(early, doubtful)):
                which = np.flatnonzero(np.isfinite(target.values))
                powers = POWERS if k < heard.values.shape[1] else (1.0,)
                own = _Target(target.values[which], target.errors[which])
                fits.append(_fit(kernels.among(which), self._featurizer.gene, own, powers))
            self._fits = known, fits
        return self._fits[1]


@dataclass(frozen=True)
class _Fit:
    """What is fitted to one target: the power of its scale, and what is weighed there.

    `straight` is what is weighed on the scale as it is.
    """

    bent: Weighed
    power: float
    straight: Weighed


def _fit(kernels: Kernels, gene: NDArray[np.int64], target: _Target, powers: Sequence[float]) -> _Fit:
    """The likeliest power with its weights; those of others are fitted only as far as it takes to tell."""
    found = []
    start: Weighed | None = None
    for power in sorted(powers, key=lambda power: abs(power - 1)):
        warp = Warp.of(power, target.values)
        bent, slope = warp.bend(target.values), warp.slope(target.values)
        steps = STEPS if start is None else FEWER_STEPS
        weighed, evidence = fitted(kernels, gene, bent, target.errors * slope, start=start, steps=steps)
        start = weighed if start is None else start
        found.append((evidence + float(np.log(slope).sum()), _Fit(weighed, power, start)))
    return max(found, key=lambda pair: pair[0])[1]


class _Sight:
    """What is believed of one target after another, of the same outcomes."""

    def __init__(self, kernels: Kernels, features: Features, gene: NDArray[np.int64]) -> None:
        self._kernels, self._features, self._gene = kernels, features, gene
        self._plain = [kernels(kernels.centres)]
        all_centres = len(features.genes) == len(kernels.centres.genes)
        self._plain.append(self._plain[0] if all_centres else kernels(features))

    def view(self, target: _Target, weighed: Weighed, power: float | None) -> _View:
        """The view of this power with these weights; without a power values are taken as they are."""
        kernels = self._kernels.by(weighed.relevance[self._gene])
        centres, points = self._plain
        if kernels is not self._kernels:
            alike = centres is points
            centres = kernels(kernels.centres, centres)
            points = centres if alike else kernels(self._features, points)
        known = np.isfinite(target.values)
        values, errors = target.values[known], target.errors[known]
        warp = Warp() if power is None else Warp.of(power, values)
        bent, slope = warp.bend(values), warp.slope(values)
        posterior, without, fitted = Posterior.of(
            centres, points.take(known), bent, errors * slope, weighed.weights
        )
        straight = warp.straighten(fitted, np.zeros(len(fitted)))[0]
        return _View(kernels, posterior, warp, known, without, straight)


@dataclass(frozen=True)
class _View:
    """What is believed of one target on a scale, and of the values that are `known`."""

    kernels: Kernels
    posterior: Posterior
    warp: Warp
    known: NDArray[np.bool_]  # (N,)
    without: Array  # of those known, each as predicted without it, on the bent scale
    fitted: Array  # and with it, on the straight one

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
