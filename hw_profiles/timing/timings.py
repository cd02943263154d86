"""The samples of one timed call, with their summaries."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundation.statistics import bootstrap
from foundation.text import rounded

READINGS = ("prefill_ms", "decode_ms")
"""What is measured of a network: reading the prompt, and decoding one token."""

RESAMPLES, LEVEL = 400, 0.9
"""Of the bootstrap interval of a median."""


@dataclass(frozen=True)
class Latency:
    """Every timing of one call, in milliseconds; summaries are drawn from it.

    `samples_ms` are by the clock of the scenario. On a CPU `wall_ms` are the same samples by the wall clock.
    `unsettled` says why the figure should not be relied on; None where it settled.
    """

    samples_ms: tuple[float, ...]
    wall_ms: tuple[float, ...] = field(default=(), compare=False)
    unsettled: str | None = field(default=None, compare=False)

    @cached_property
    def median_ms(self) -> float:
        """The latency, for most purposes."""
        return statistics.median(self.samples_ms)

    @property
    def n(self) -> int:
        """How many samples there are."""
        return len(self.samples_ms)

    @property
    def spread(self) -> float:
        """Interquartile range over the median: above a few percent, distrust a single sample."""
        if self.n < 2:
            return 0.0
        if self.median_ms <= 0:  # the difference of two timings may be nothing
            return math.inf
        low, _, high = statistics.quantiles(self.samples_ms, n=4, method="inclusive")
        return (high - low) / self.median_ms

    @cached_property
    def standard_error(self) -> float:
        """One standard error of the median, in ms, from the order statistics that bracket it.

        The ranks n/2 -+ sqrt(n)/2 are one binomial standard deviation around the median's rank. Infinite
        for a single sample.
        """
        if self.n < 2:
            return math.inf
        ordered, reach = sorted(self.samples_ms), math.sqrt(self.n) / 2
        low = max(0, math.floor((self.n - 1) / 2 - reach))
        high = min(self.n - 1, math.ceil((self.n - 1) / 2 + reach))
        return (ordered[high] - ordered[low]) / 2

    @cached_property
    def interval_ms(self) -> tuple[float, float]:
        """A bootstrap interval of 90 % for the median."""
        return bootstrap(_medians, self.samples_ms, resamples=RESAMPLES, level=LEVEL)

    @property
    def uncertainty(self) -> float:
        """Half the bootstrap interval over the median: what `settled` is marked by."""
        low, high = self.interval_ms
        return math.inf if self.n < 2 or self.median_ms <= 0 else (high - low) / 2 / self.median_ms

    def rounded(self, digits: int = 5) -> Latency:
        """The same with so many significant digits, as tables keep it."""
        samples, wall = (
            tuple(rounded(value, digits) for value in values) for values in (self.samples_ms, self.wall_ms)
        )
        return Latency(samples, wall, self.unsettled)

    def summary(self) -> dict[str, Any]:
        """Plain values for a reader."""
        plain = {
            "median_ms": rounded(self.median_ms),
            "interval_ms": [rounded(end) for end in self.interval_ms],
            "spread": _finite(self.spread),
            "standard_error_ms": _finite(self.standard_error),
            "n": self.n,
        }
        if self.wall_ms:
            plain["wall_median_ms"] = rounded(statistics.median(self.wall_ms))
        return plain

    def to_plain(self) -> dict[str, Any]:
        """Summary and samples, as values that JSON can hold."""
        plain = {**self.summary(), "samples_ms": list(self.samples_ms)}
        if self.wall_ms:
            plain["samples_wall_ms"] = list(self.wall_ms)
        return plain if self.unsettled is None else {**plain, "unsettled": self.unsettled}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Latency:
        """What `to_plain` wrote."""
        samples, wall = (tuple(map(float, plain.get(k, ()))) for k in ("samples_ms", "samples_wall_ms"))
        if not samples:
            raise ValueError("a latency without samples")
        return cls(samples, wall, plain.get("unsettled"))


def _medians(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median of each resample [R, N]."""
    medians: NDArray[np.float64] = np.median(samples, axis=1)
    return medians


def _finite(value: float) -> float | None:
    return rounded(value) if math.isfinite(value) else None
