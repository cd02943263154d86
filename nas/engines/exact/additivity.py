"""Whether sums of replacement scores predict whole networks: measured on random ones, never assumed.

Replacements may help or hinder each other, so the sum of what each does alone is a guess at what all of them
do together. Rank correlation (Kendall's tau, with a bootstrap interval over the networks) says whether the
sum orders networks; the errors say how far it is off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundation.errors import SettingError
from foundation.statistics import bootstrap, kendall_tau, tau_with_interval
from foundation.text import percent

RESAMPLES = 1000
MIN_TAU = 0.5
"""Below this the sum does not order networks well enough to choose by it."""


@dataclass(frozen=True)
class Additivity:
    """Sums of scores against real divergences of `n` whole networks.

    `tau` is Kendall's, within `tau_low` and `tau_high` at 95 %. `ratio` is the median of real over
    predicted: below 1, replacements do less together than each alone. `error` is the median of
    |real / (ratio predicted) - 1|, within `error_low` and `error_high`.
    """

    n: int
    tau: float
    tau_low: float
    tau_high: float
    ratio: float
    error: float
    error_low: float
    error_high: float

    def holds(self, least_tau: float = MIN_TAU) -> bool:
        """Whether the sum orders networks well enough to choose by it."""
        return self.tau >= least_tau

    def to_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)

    def __str__(self) -> str:
        interval = f"{self.tau:.2f} ({self.tau_low:.2f} to {self.tau_high:.2f})"
        low, error, high = (percent(each, places=0) for each in (self.error_low, self.error, self.error_high))
        return (
            f"on {self.n} random networks the sum of replacement scores and the real divergence have Kendall"
            f" tau {interval}; real over predicted {self.ratio:.2f}, then off by {error} ({low} to {high})"
        )


def additivity(predicted: Sequence[float], real: Sequence[float], *, seed: int = 0) -> Additivity:
    """Compare sums of scores with divergences of the same networks.

    Raises:
        SettingError: fewer than three networks, or numbers that are not finite.
    """
    guess, truth = np.asarray(predicted, dtype=float), np.asarray(real, dtype=float)
    if guess.shape != truth.shape or len(guess) < 3:
        raise SettingError(f"additivity needs three networks at least, got {len(guess)} and {len(truth)}")
    if not (np.isfinite(guess).all() and np.isfinite(truth).all()):
        raise SettingError("additivity needs finite scores and divergences")
    tau = tau_with_interval(guess, truth, seed=seed, resamples=RESAMPLES)
    pairs = np.stack((guess, truth), axis=1)
    error_low, error_high = bootstrap(_error, pairs, seed=seed, resamples=RESAMPLES)
    return Additivity(
        n=len(guess),
        tau=_unless_nan(tau.value, 0.0),
        tau_low=_unless_nan(tau.low, -1.0),
        tau_high=_unless_nan(tau.high, 1.0),
        ratio=float(_ratio(pairs[None])[0, 0]),
        error=float(_error(pairs[None])[0]),
        error_low=error_low,
        error_high=error_high,
    )


def rank_correlation(predicted: Sequence[float], real: Sequence[float]) -> float:
    """Kendall's tau; 0 where one side is all the same."""
    return _unless_nan(kendall_tau(predicted, real), 0.0)


def _unless_nan(value: float, fallback: float) -> float:
    """The value; where one side is all the same there is none, and the fallback stands for it."""
    return fallback if math.isnan(value) else value


def _ratio(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median of real over predicted of each resample [R, N, 2], as [R, 1]."""
    guess, truth = pairs[..., 0], pairs[..., 1]
    return np.median(truth / _positive(guess), axis=1, keepdims=True)


def _error(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median relative error of the scaled sums of each resample [R, N, 2], as [R]."""
    guess, truth = pairs[..., 0], pairs[..., 1]
    scaled = _ratio(pairs) * _positive(guess)
    errors: NDArray[np.float64] = np.median(np.abs(truth / _positive(scaled) - 1), axis=1)
    return errors


def _positive(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of scores may be a little below zero, by noise, where a network hardly differs from the parent."""
    return np.maximum(values, 1e-9)
