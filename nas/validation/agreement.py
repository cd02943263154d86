"""Do two ways of scoring put networks in the same order? Kendall's tau, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from foundation.statistics import Tau, tau_with_interval
from nas.validation.errors import NothingToCompare

FEW = 6
"""Networks below which an interval says nothing: a resample of so few often repeats one of them."""

Pair: TypeAlias = tuple[float, float, str]
"""Two scores of a network, and its name."""


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau of two rankings with its bootstrap interval, and the scores behind it."""

    tau: Tau
    pairs: tuple[Pair, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**self.ranking(), "pairs": [list(pair) for pair in self.pairs]}

    def ranking(self) -> dict[str, Any]:
        """Plain values, without the pairs."""
        return {"tau": self.tau.value, "interval": None if self.few else [self.tau.low, self.tau.high]}

    @property
    def few(self) -> bool:
        """Whether the networks are too few for an interval."""
        return len(self.pairs) < FEW

    def __str__(self) -> str:
        if self.few:
            return f"{self.tau.value:.2f}, of too few networks for an interval: at least {FEW}, better 12"
        return str(self.tau)


def agreement(pairs: Sequence[Pair], seed: int = 0) -> Agreement:
    """How far two scores agree on the order of networks; the interval resamples the networks.

    Raises:
        NothingToCompare: fewer than three networks, or a score that is the same for all of them.
    """
    if len(pairs) < 3:
        raise NothingToCompare(f"a rank correlation needs at least 3 networks, got {len(pairs)}")
    values = np.array([pair[:2] for pair in pairs], dtype=float)
    if (values == values[0]).all(axis=0).any():
        raise NothingToCompare("a rank correlation needs scores that differ, and these are all the same")
    return Agreement(tau_with_interval(*values.T, seed=seed), tuple(pairs))
