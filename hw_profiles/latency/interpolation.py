"""What parts take that were not measured: a regression on operations and bytes for each kind of block.

A part takes

    t = (a_0 + a_1 FLOPs + a_2 weight bytes + a_3 state bytes + a_4 activations) * exp(r),    a >= 0

with coefficients fitted per kind of block, drawn to those of all kinds where a kind has few measurements. The
residual r is a Gaussian process over the logarithms of the part's numbers (width, heads, expansion, ...) with
an exponential kernel, rough enough for a staircase: steps that were measured are kept, and what lies between
is interpolated with an error that grows with the distance (Rasmussen & Williams 2006, chapters 2 and 4). Its
standard deviation is that of each measurement from a regression without it, because a few measurements are
always fitted well; its length scale is that of the greatest marginal likelihood, out of a few.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import nnls

from hw_profiles.latency.features import Array, Axes, features
from hw_profiles.latency.parts import Part
from hw_profiles.timing.timings import READINGS, Latency
from search_spaces.scenario import Scenario

LENGTH_SCALES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Doublings of a number over which residuals may be correlated."""

DEVIATIONS = (0.03, 0.6)
"""Least and greatest relative standard deviation of measurements from their regression."""

UNTESTED_DEVIATION = 0.25
"""The same for a regression of one or two measurements, which cannot tell."""

LEAST_NOISE = 0.01
"""Relative noise of a measured part, at least."""

COMMON_WEIGHT = 0.05
"""The weight of all kinds' coefficients in those of one kind, in numbers of measurements."""

LEAST_MS = 1e-5


@dataclass(frozen=True)
class Estimate:
    """Milliseconds of one part, and their relative standard deviation."""

    ms: float
    error: float


class KindRegression:
    """The regression of one kind and one reading, with the process of its residuals."""

    def __init__(self, rows: Array, ms: Array, noise: Array, axes: Axes, parts: Sequence[Part]) -> None:
        self.axes = axes
        self.coefficients = np.zeros(rows.shape[1])
        self.rows, self.ms, self.noise, self.parts = rows, ms, noise, parts

    def fit(self, common: Array) -> KindRegression:
        """Fit the coefficients near a multiple of the common ones, then the residuals."""
        every_row = np.arange(len(self.ms))
        self.coefficients = self._coefficients(common, every_row)
        self.deviation = self._deviation(common, every_row)
        residual = np.log(self.ms / self._regression(self.rows))
        gaps = self.axes.distances(self.parts)
        self.length = max(
            (_likelihood(gaps, residual, self.noise, length, self.deviation), length)
            for length in LENGTH_SCALES
        )[1]
        self.factor = cho_factor(_covariance(gaps, self.length, self.deviation) + np.diag(self.noise**2))
        self.weights = cho_solve(self.factor, residual)
        return self

    def _coefficients(self, common: Array, used: NDArray[np.intp]) -> Array:
        """Fitted to some of the measurements, near the common ones."""
        rows, ms = self.rows[used], self.ms[used]
        plain = rows @ common
        scale = float(np.exp(np.mean(np.log(ms / plain)))) if (plain > 0).all() else 0.0
        typical = rows.mean(0) / np.median(ms)
        pull = np.diag(math.sqrt(COMMON_WEIGHT) * typical)
        target = np.concatenate([np.ones(len(ms)), pull @ (scale * common)])
        size = np.where(typical > 0, typical, 1.0)
        found: Array = nnls(np.concatenate([rows / ms[:, None], pull]) / size, target)[0] / size
        return found

    def _deviation(self, common: Array, every_row: NDArray[np.intp]) -> float:
        """The relative deviation of measurements from regressions that were fitted without them."""
        if len(every_row) < 3:
            return UNTESTED_DEVIATION
        off = []
        for i in every_row:
            without = self._coefficients(common, every_row[every_row != i])
            off.append(math.log(self.ms[i] / max(float(self.rows[i] @ without), LEAST_MS)))
        return float(np.clip(math.sqrt(np.mean(np.square(off))), *DEVIATIONS))

    def estimate(self, rows: Array, parts: Sequence[Part]) -> tuple[Array, Array]:
        """Milliseconds [P], and their relative standard deviations."""
        near = _covariance(self.axes.distances(parts), self.length, self.deviation)
        ms = self._regression(rows) * np.exp(near @ self.weights)
        known = np.einsum("pm,mp->p", near, cho_solve(self.factor, near.T))
        return ms, np.sqrt(np.maximum(self.deviation**2 - known, 1e-8))

    def _regression(self, rows: Array) -> Array:
        return np.maximum(rows @ self.coefficients, LEAST_MS)


def _covariance(gaps: Array, length: float, deviation: float) -> Array:
    return deviation**2 * np.exp(-np.sqrt(gaps) / length)


def _likelihood(gaps: Array, residual: Array, noise: Array, length: float, deviation: float) -> float:
    """Of the residuals under a process, up to a constant."""
    factor = cho_factor(_covariance(gaps, length, deviation) + np.diag(noise**2))
    fit = residual @ cho_solve(factor, residual) + 2 * np.log(np.diag(factor[0])).sum()
    return float(-fit / 2)


class Interpolator:
    """Estimates of parts that were not measured, by a regression for each kind of block and reading."""

    def __init__(self, entries: Mapping[Part, Mapping[str, Latency]], scenario: Scenario) -> None:
        self.scenario = scenario
        self.kinds: dict[tuple[str, str], KindRegression] = {}
        at = math.log2(scenario.decode_position + 1)
        for reading in READINGS:
            regressions = {}
            for kind in sorted({part.kind for part in entries if part.block is not None}):
                known = [p for p, found in entries.items() if p.kind == kind and reading in found]
                if known:
                    regressions[kind] = self._regression_of(
                        known, [entries[part][reading] for part in known], reading, at
                    )
            if not regressions:
                continue
            common = _common(regressions.values())
            self.kinds |= {
                (kind, reading): regression.fit(common) for kind, regression in regressions.items()
            }

    def _regression_of(
        self, parts: Sequence[Part], found: Sequence[Latency], reading: str, at: float
    ) -> KindRegression:
        ms = np.array([max(latency.median_ms, LEAST_MS) for latency in found])
        errors = np.array([latency.standard_error for latency in found])
        noise = np.clip(np.nan_to_num(errors, posinf=1.0) / ms, LEAST_NOISE, 1.0)
        return KindRegression(self._rows(parts, reading), ms, noise, Axes(parts, at), parts)

    def _rows(self, parts: Sequence[Part], reading: str) -> Array:
        return np.array([features(part, self.scenario, reading) for part in parts], dtype=float)

    def covers(self, part: Part) -> bool:
        """Whether parts of its kind and about its size were measured."""
        regressions = [self.kinds.get((part.kind, reading)) for reading in READINGS]
        found = [regression for regression in regressions if regression is not None]
        return len(found) == len(READINGS) and all(regression.axes.reaches(part) for regression in found)

    def estimate(self, parts: Sequence[Part], reading: str) -> list[Estimate]:
        """What these parts take; all their kinds must have been measured."""
        by_kind: dict[str, list[int]] = {}
        for i, part in enumerate(parts):
            by_kind.setdefault(part.kind, []).append(i)
        found: dict[int, Estimate] = {}
        for kind, indices in by_kind.items():
            here = [parts[i] for i in indices]
            ms, errors = self.kinds[kind, reading].estimate(self._rows(here, reading), here)
            pairs = zip(ms.tolist(), errors.tolist(), strict=True)
            found |= {i: Estimate(*pair) for i, pair in zip(indices, pairs, strict=True)}
        return [found[i] for i in range(len(parts))]


def _common(regressions: Iterable[KindRegression]) -> Array:
    """Coefficients of all kinds together."""
    known = list(regressions)
    rows = np.concatenate([regression.rows / regression.ms[:, None] for regression in known])
    size = rows.mean(0)
    size = np.where(size > 0, size, 1.0)
    found: Array = nnls(rows / size, np.ones(len(rows)))[0] / size
    return found
