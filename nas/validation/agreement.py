"""Do two ways of scoring put networks in the same order? Kendall's tau, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundation.errors import SettingError

RESAMPLES = 2000


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau of two rankings with its 95 % bootstrap interval, and the pairs behind it."""

    tau: float
    interval: tuple[float, float]
    pairs: tuple[tuple[float, float, str], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"tau": self.tau, "interval": list(self.interval), "pairs": [list(p) for p in self.pairs]}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.tau:.2f} (95 % interval {low:.2f} to {high:.2f})"


def agreement(pairs: Sequence[tuple[float, float, str]], seed: int = 0) -> Agreement:
    """Kendall's tau of (proxy, truth) pairs; the interval resamples the networks.

    Raises:
        SettingError: fewer than three pairs, or a score that is the same for all: they say nothing.
    """
    if len(pairs) < 3:
        raise SettingError(f"a rank correlation needs at least 3 networks, got {len(pairs)}")
    values = np.array([pair[:2] for pair in pairs], dtype=float)
    if (values == values[0]).all(axis=0).any():
        raise SettingError("a rank correlation needs scores that differ, and these are all the same")
    picks = np.random.default_rng(seed).integers(len(pairs), size=(RESAMPLES, len(pairs)))
    low, high = np.nanpercentile(_taus(values, picks), [2.5, 97.5])
    tau = float(_taus(values, np.arange(len(pairs))[None])[0])
    return Agreement(tau, (float(low), float(high)), tuple(pairs))


def _taus(values: NDArray[np.float64], picks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Kendall's tau-b of each row of `picks`, by how often it takes each network; nan where all are tied."""
    times = np.stack([(picks == i).sum(1) for i in range(len(values))], axis=1).astype(float)
    one, other = (np.sign(side[:, None] - side[None, :]) for side in values.T)

    def over_pairs(signs: NDArray[np.float64]) -> NDArray[np.float64]:
        return ((times @ signs) * times).sum(1)

    with np.errstate(invalid="ignore"):
        taus: NDArray[np.float64] = over_pairs(one * other) / np.sqrt(
            over_pairs(one**2) * over_pairs(other**2)
        )
    return taus
