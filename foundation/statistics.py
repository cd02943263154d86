"""Statistics that several packages need: means with errors, paired differences, rank correlation, bootstrap.

Intervals are percentile bootstraps with a seeded generator, so that the same numbers give the same interval.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
LEVEL = 0.95

Floats = NDArray[np.float64]


def mean_and_error(samples: Sequence[float]) -> tuple[float, float]:
    """The mean of two samples or more, and its standard error."""
    return statistics.fmean(samples), statistics.stdev(samples) / math.sqrt(len(samples))


@dataclass(frozen=True)
class Tau:
    """Kendall's tau-b with its bootstrap interval; NaN where a side is all ties."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({100 * LEVEL:.0f} % interval {self.low:.2f} to {self.high:.2f})"


def kendall_tau(first: ArrayLike, second: ArrayLike) -> float:
    """Kendall's tau-b of two rankings of the same things; NaN where a side is all ties."""
    values = np.stack((np.asarray(first, dtype=float), np.asarray(second, dtype=float)), axis=1)
    return float(_taus(values, np.arange(len(values))[None])[0]) if len(values) else math.nan


def tau_with_interval(
    first: ArrayLike, second: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> Tau:
    """Kendall's tau-b; the interval resamples the ranked things, leaving out resamples of ties only."""
    values = np.stack((np.asarray(first, dtype=float), np.asarray(second, dtype=float)), axis=1)
    picks = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    taus = _taus(values, picks)
    low, high = interval(taus, level) if np.isfinite(taus).any() else (math.nan, math.nan)
    return Tau(kendall_tau(first, second), low, high)


def tau_difference(
    first: ArrayLike, second: ArrayLike, truth: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES
) -> Tau:
    """By how much the tau-b of `first` with `truth` is above that of `second`, paired in every resample."""
    sides = [
        np.stack((np.asarray(side, float), np.asarray(truth, float)), axis=1) for side in (first, second)
    ]
    count = len(sides[0])
    picks = np.random.default_rng(seed).integers(count, size=(resamples, count))
    one, other = (_taus(side, picks) for side in sides)
    low, high = interval(one - other) if np.isfinite(one - other).any() else (math.nan, math.nan)
    return Tau(kendall_tau(first, truth) - kendall_tau(second, truth), low, high)


def interval(values: ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """The central interval that holds the share `level` of the values; NaN among them are left out."""
    ends = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.nanquantile(np.asarray(values, dtype=float), ends)
    return float(low), float(high)


def bootstrap(
    statistic: Callable[[Floats], Floats],
    samples: ArrayLike,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> tuple[float, float]:
    """The bootstrap interval of a statistic over samples [N, ...].

    `statistic` reduces resampled samples [R, N, ...] to one value for each resample [R].
    """
    values = np.asarray(samples, dtype=float)
    picks = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    return interval(statistic(values[picks]), level)


def _taus(values: Floats, picks: NDArray[np.int64]) -> Floats:
    """Tau-b of each row of `picks`, from how often the row takes each of the things [N, 2]."""
    times = np.stack([(picks == i).sum(1) for i in range(len(values))], axis=1).astype(float)
    first, second = (np.sign(side[:, None] - side[None, :]) for side in values.T)

    def over_pairs(signs: Floats) -> Floats:
        summed: Floats = ((times @ signs) * times).sum(1)
        return summed

    with np.errstate(invalid="ignore"):
        taus: Floats = over_pairs(first * second) / np.sqrt(over_pairs(first**2) * over_pairs(second**2))
    return taus
