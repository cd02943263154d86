"""Whether sums of replacement scores tell of whole networks: asked of random ones, never assumed.

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
from scipy.stats import kendalltau

from foundation.errors import SettingError

RESAMPLES = 1000
LEVEL = 0.95
LEAST_TAU = 0.5
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

    def holds(self, least_tau: float = LEAST_TAU) -> bool:
        """Whether the sum orders networks well enough to choose by it."""
        return self.tau >= least_tau

    def to_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)

    def __str__(self) -> str:
        interval = f"{self.tau:.2f} ({self.tau_low:.2f} to {self.tau_high:.2f})"
        errors = f"{100 * self.error:.0f} % ({100 * self.error_low:.0f} to {100 * self.error_high:.0f} %)"
        return (
            f"on {self.n} random networks the sum of replacement scores and the real divergence have Kendall"
            f" tau {interval}; real over predicted {self.ratio:.2f}, then off by {errors}"
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
    dice = np.random.default_rng(seed)
    picks = dice.integers(len(guess), size=(RESAMPLES, len(guess)))
    taus = np.array([_tau(guess[pick], truth[pick]) for pick in picks])
    errors = np.array([_error(guess[pick], truth[pick]) for pick in picks])
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.nanquantile(taus, ends) if np.isfinite(taus).any() else (math.nan, math.nan)
    error_low, error_high = np.quantile(errors, ends)
    return Additivity(
        n=len(guess),
        tau=rank_correlation(predicted, real),
        tau_low=float(np.nan_to_num(low, nan=-1.0)),
        tau_high=float(np.nan_to_num(high, nan=1.0)),
        ratio=_ratio(guess, truth),
        error=_error(guess, truth),
        error_low=float(error_low),
        error_high=float(error_high),
    )


def rank_correlation(predicted: Sequence[float], real: Sequence[float]) -> float:
    """Kendall's tau; 0 where one side is all the same."""
    tau = _tau(np.asarray(predicted, dtype=float), np.asarray(real, dtype=float))
    return 0.0 if math.isnan(tau) else tau


def _tau(guess: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    if len(np.unique(guess)) < 2 or len(np.unique(truth)) < 2:
        return math.nan
    return float(kendalltau(guess, truth).statistic)


def _ratio(guess: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    return float(np.median(truth / _positive(guess)))


def _error(guess: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    scaled = _ratio(guess, truth) * _positive(guess)
    return float(np.median(np.abs(truth / _positive(scaled) - 1)))


def _positive(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of scores may be a little below zero, by noise, where a network hardly differs from the parent."""
    return np.maximum(values, 1e-9)
