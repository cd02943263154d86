"""Timings: the samples of one call with their summaries, and the file that a profile can go on from.

A samples file has one JSON value per line: first what was measured where (scenario and fingerprint), then one
line per measured thing, written as soon as it is known. A line that a kill cut short is measured again.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from foundation.errors import ProfileError
from hw_profiles.fingerprint import Fingerprint, differences
from search_spaces.scenario import Scenario

READINGS = ("prefill_ms", "decode_ms")
"""What is measured of a network: reading the prompt, and decoding one token."""

FORMAT = "nas samples"
RESAMPLES = 400
LEVEL = 0.9


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
        dice = np.random.default_rng(0)
        picks = dice.integers(self.n, size=(RESAMPLES, self.n))
        medians = np.median(np.asarray(self.samples_ms)[picks], axis=1)
        low, high = np.quantile(medians, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return float(low), float(high)

    @property
    def uncertainty(self) -> float:
        """Half the bootstrap interval over the median: what `settled` is judged by."""
        low, high = self.interval_ms
        return math.inf if self.n < 2 or self.median_ms <= 0 else (high - low) / 2 / self.median_ms

    def rounded(self, digits: int = 5) -> Latency:
        """The same with so many significant digits, as tables keep it."""
        samples, wall = (
            tuple(float(f"{value:.{digits}g}") for value in values)
            for values in (self.samples_ms, self.wall_ms)
        )
        return Latency(samples, wall, self.unsettled)

    def summary(self) -> dict[str, Any]:
        """Plain values for a reader."""
        plain = {
            "median_ms": _short(self.median_ms),
            "interval_ms": [_short(end) for end in self.interval_ms],
            "spread": _finite(self.spread),
            "standard_error_ms": _finite(self.standard_error),
            "n": self.n,
        }
        if self.wall_ms:
            plain["wall_median_ms"] = _short(statistics.median(self.wall_ms))
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


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _finite(value: float) -> float | None:
    return _short(value) if math.isfinite(value) else None


class SampleLog:
    """The measurements of an unfinished profile, on disk where a path is given.

    Raises:
        ProfileError: the file is something else, or of another machine, software or scenario: their samples
            must not be mixed.
    """

    def __init__(self, path: Path | None, scenario: Scenario, machine: Fingerprint) -> None:
        self.path = path
        self.known: dict[str, Any] = {}
        self._head: dict[str, Any] = {
            "format": FORMAT,
            "scenario": scenario.conditions(),
            "fingerprint": machine,
        }
        if path is None:
            return
        if path.exists():
            self._restore(path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self._head) + "\n", encoding="utf-8")

    def add(self, key: str, value: Any) -> None:
        """Keep one measurement."""
        self.known[key] = value
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "value": value}) + "\n")

    def remove(self) -> None:
        """Forget it: the profile is finished."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _restore(self, path: Path) -> None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        except (OSError, UnicodeDecodeError) as error:
            raise ProfileError(f"{path}: cannot be read: {error}") from error
        whole = [found for line in lines if (found := _line(line)) is not None]
        if not whole or whole[0].get("format") != FORMAT:
            raise ProfileError(f"{path} is no samples file of a profile; name another file")
        if len(whole) == 1:  # stopped before anything was measured: there is nothing to mix
            whole = [self._head]
        head = whole[0]
        for what in ("scenario", "fingerprint"):
            told = differences(head[what], self._head[what])
            if told:
                raise ProfileError(
                    f"{path} holds samples of another {what}, which must not be mixed with new ones:"
                    f" {told}; name another file, or remove it"
                )
        self.known = {entry["key"]: entry["value"] for entry in whole[1:]}
        text = "".join(json.dumps(entry) + "\n" for entry in whole)
        path.write_text(text, encoding="utf-8")  # without the line that a kill cut short


def _line(text: str) -> dict[str, Any] | None:
    try:
        plain = json.loads(text)
    except ValueError:
        return None
    return plain if isinstance(plain, dict) else None
