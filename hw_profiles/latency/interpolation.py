"""What parts take that were not measured: a law of operations and bytes per kind of block, and its residuals.

A part takes

    t = (a_0 + a_1 FLOPs + a_2 weight bytes + a_3 state bytes + a_4 activations) * exp(r),    a >= 0

with coefficients fitted per kind of block, drawn to those of all kinds where a kind has few measurements. The
residual r is a Gaussian process over the logarithms of the part's numbers (width, heads, expansion, ...) with
an exponential kernel, rough enough for a staircase: steps that were measured are kept, and what lies between
is interpolated with an error that grows with the distance (Rasmussen & Williams 2006, chapters 2 and 4). Its
height is how far the law is off on each measurement when it is fitted without it, because a few measurements
are always fitted well; its length is that of the greatest marginal likelihood, out of a few.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import nnls

from hw_profiles.latency.parts import Part
from hw_profiles.runtimes.base import runtime_of
from hw_profiles.timing.timings import READINGS, Latency
from search_spaces.language.serialization import to_plain
from search_spaces.network.decoder import parameter_shapes
from search_spaces.network.options.reads_embedding import reader_cost
from search_spaces.scenario import Scenario

Array: TypeAlias = NDArray[np.float64]

LENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Over how many doublings of a number residuals may resemble each other."""

HEIGHTS = (0.03, 0.6)
"""How far, relatively, a law is taken to be off, at least and at most."""

UNTESTED = 0.25
"""How far a law of one or two measurements is taken to be off."""

FLOOR = 0.01
"""Relative noise of a measured part, at least."""

PULL = 0.05
"""The weight of all kinds' coefficients in those of one kind, in measurements."""

LEAST_MS = 1e-5

BEYOND = 1.0
"""Doublings beyond what was measured that a law may still speak of."""


@dataclass(frozen=True)
class Estimate:
    """Milliseconds of one part, and their relative standard deviation."""

    ms: float
    error: float


@lru_cache(maxsize=65536)
def features(part: Part, scenario: Scenario, reading: str) -> tuple[float, ...]:
    """What a law is made of: one, FLOPs, weight bytes, state bytes, activations."""
    assert part.block is not None
    static = runtime_of(scenario).static_shapes
    position = scenario.decode_position if part.position is None else part.position
    at = replace(scenario, prompt=position, new_tokens=1)
    prefill = reading == "prefill_ms"
    tokens = scenario.prompt if prefill else 1
    held = scenario.context if static and not prefill else position + 1
    cost = part.block.cost(part.d_model, scenario if prefill else at)
    shapes = part.block.state(part.d_model).values()
    state = sum(math.prod(shape.allocated(scenario.batch, held)) for shape in shapes) * part.state_bits / 8
    weights = sum(map(math.prod, parameter_shapes(part.block, part.d_model).values())) * part.weight_bits / 8
    flops = cost.prefill_flops if prefill else cost.decode_flops
    if part.reads_embedding:
        more = reader_cost(part.d_model, scenario)
        flops += more.prefill_flops if prefill else more.decode_flops
        weights += 2 * more.params
    return (1.0, flops, weights, state, scenario.batch * tokens * part.d_model)


@lru_cache(maxsize=65536)
def coordinates(part: Part) -> Mapping[str, Any]:
    """Every value of a part by path; numbers as logarithms (base 2)."""
    found: dict[str, Any] = {}
    _flatten("", to_plain(part.block), found)
    for name in ("d_model", "state_bits", "weight_bits", "activation_bits"):
        found[name] = math.log2(getattr(part, name))
    found["numbers"] = part.numbers
    found["position"] = None if part.position is None else math.log2(part.position + 1)
    found["reads_embedding"] = f"{part.reads_embedding}"
    return found


def _flatten(path: str, value: Any, found: dict[str, Any]) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _flatten(f"{path}.{name}", inner, found)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            _flatten(f"{path}.{i}", inner, found)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
        found[path] = math.log2(value)
    else:
        found[path] = f"{value}"


class Axes:
    """The coordinates of parts of one kind as numbers; what is no number in all of them is a category."""

    def __init__(self, parts: Sequence[Part], position: float) -> None:
        self.position = position
        rows = [self._row(part) for part in parts]
        names = sorted({name for row in rows for name in row})
        numeric = {n for n in names if all(isinstance(row.get(n), float) for row in rows)}
        self.numbers = [name for name in names if name in numeric]
        self.categories = [name for name in names if name not in numeric]
        self.x, self.levels = self.encode(parts)
        self.low, self.high = self.x.min(0), self.x.max(0)

    def _row(self, part: Part) -> dict[str, Any]:
        row = dict(coordinates(part))
        row["position"] = self.position if row["position"] is None else row["position"]
        return row

    def encode(self, parts: Sequence[Part]) -> tuple[Array, NDArray[np.object_]]:
        """Numbers [P, n] and categories [P, c]; a number that is none here is not a number."""
        rows = [self._row(part) for part in parts]
        x = [[v if isinstance(v := row.get(n), float) else math.nan for n in self.numbers] for row in rows]
        levels = [[str(row.get(name)) for name in self.categories] for row in rows]
        shape = (len(rows), len(self.categories))
        return np.array(x, dtype=float).reshape(len(rows), -1), np.array(levels, dtype=object).reshape(shape)

    def reaches(self, part: Part) -> bool:
        """Whether no number of a part is more than a doubling beyond those that the axes were made of."""
        x, _ = self.encode([part])
        return bool(((x >= self.low - BEYOND) & (x <= self.high + BEYOND)).all())  # not a number is beyond

    def within_reach(self, chosen: Sequence[int]) -> bool:
        """Whether all parts that the axes were made of are within reach of a few of them."""
        low, high = self.x[chosen].min(0), self.x[chosen].max(0)
        return bool(((self.low >= low - BEYOND) & (self.high <= high + BEYOND)).all())

    def distances(self, parts: Sequence[Part]) -> Array:
        """Squared distances [P, measured], in doublings; another category is one doubling away."""
        x, levels = self.encode(parts)
        gaps = np.nan_to_num((x[:, None] - self.x[None]) ** 2, nan=4.0).sum(-1)
        return gaps + (levels[:, None] != self.levels[None]).sum(-1)


class Law:
    """The law of one kind and one reading; see the head of this file."""

    def __init__(self, rows: Array, ms: Array, noise: Array, axes: Axes, parts: Sequence[Part]) -> None:
        self.axes = axes
        self.coefficients = np.zeros(rows.shape[1])
        self.rows, self.ms, self.noise, self.parts = rows, ms, noise, parts

    def fit(self, common: Array) -> Law:
        """Fit the coefficients near a multiple of the common ones, then the residuals."""
        everything = np.arange(len(self.ms))
        self.coefficients = self._coefficients(common, everything)
        self.height = self._height(common, everything)
        residual = np.log(self.ms / self._plain(self.rows))
        gaps = self.axes.distances(self.parts)
        self.length = max(
            (_likelihood(gaps, residual, self.noise, length, self.height), length) for length in LENGTHS
        )[1]
        self.factor = cho_factor(_covariance(gaps, self.length, self.height) + np.diag(self.noise**2))
        self.weights = cho_solve(self.factor, residual)
        return self

    def _coefficients(self, common: Array, used: NDArray[np.intp]) -> Array:
        """Fitted to some of the measurements, near the common ones."""
        rows, ms = self.rows[used], self.ms[used]
        plain = rows @ common
        scale = float(np.exp(np.mean(np.log(ms / plain)))) if (plain > 0).all() else 0.0
        typical = rows.mean(0) / np.median(ms)
        pull = np.diag(math.sqrt(PULL) * typical)
        target = np.concatenate([np.ones(len(ms)), pull @ (scale * common)])
        size = np.where(typical > 0, typical, 1.0)
        found: Array = nnls(np.concatenate([rows / ms[:, None], pull]) / size, target)[0] / size
        return found

    def _height(self, common: Array, everything: NDArray[np.intp]) -> float:
        """How far the law is off on measurements that it was fitted without, relatively."""
        if len(everything) < 3:
            return UNTESTED
        off = []
        for i in everything:
            without = self._coefficients(common, everything[everything != i])
            off.append(math.log(self.ms[i] / max(float(self.rows[i] @ without), LEAST_MS)))
        return float(np.clip(math.sqrt(np.mean(np.square(off))), *HEIGHTS))

    def estimate(self, rows: Array, parts: Sequence[Part]) -> tuple[Array, Array]:
        """Milliseconds [P], and their relative standard deviations."""
        near = _covariance(self.axes.distances(parts), self.length, self.height)
        ms = self._plain(rows) * np.exp(near @ self.weights)
        known = np.einsum("pm,mp->p", near, cho_solve(self.factor, near.T))
        return ms, np.sqrt(np.maximum(self.height**2 - known, 1e-8))

    def _plain(self, rows: Array) -> Array:
        return np.maximum(rows @ self.coefficients, LEAST_MS)


def _covariance(gaps: Array, length: float, height: float) -> Array:
    return height**2 * np.exp(-np.sqrt(gaps) / length)


def _likelihood(gaps: Array, residual: Array, noise: Array, length: float, height: float) -> float:
    """Of the residuals under a process, up to a constant."""
    factor = cho_factor(_covariance(gaps, length, height) + np.diag(noise**2))
    fit = residual @ cho_solve(factor, residual) + 2 * np.log(np.diag(factor[0])).sum()
    return float(-fit / 2)


class Laws:
    """The laws of all kinds of blocks that were measured."""

    def __init__(self, entries: Mapping[Part, Mapping[str, Latency]], scenario: Scenario) -> None:
        self.scenario = scenario
        self.kinds: dict[tuple[str, str], Law] = {}
        at = math.log2(scenario.decode_position + 1)
        for reading in READINGS:
            laws = {}
            for kind in sorted({part.kind for part in entries if part.block is not None}):
                known = [p for p, found in entries.items() if p.kind == kind and reading in found]
                if known:
                    laws[kind] = self._law(known, [entries[part][reading] for part in known], reading, at)
            if not laws:
                continue
            common = _common(laws.values())
            self.kinds |= {(kind, reading): law.fit(common) for kind, law in laws.items()}

    def _law(self, parts: Sequence[Part], found: Sequence[Latency], reading: str, at: float) -> Law:
        ms = np.array([max(latency.median_ms, LEAST_MS) for latency in found])
        errors = np.array([latency.standard_error for latency in found])
        noise = np.clip(np.nan_to_num(errors, posinf=1.0) / ms, FLOOR, 1.0)
        return Law(self._rows(parts, reading), ms, noise, Axes(parts, at), parts)

    def _rows(self, parts: Sequence[Part], reading: str) -> Array:
        return np.array([features(part, self.scenario, reading) for part in parts], dtype=float)

    def knows(self, part: Part) -> bool:
        """Whether parts of its kind and about its size were measured."""
        laws = [self.kinds.get((part.kind, reading)) for reading in READINGS]
        found = [law for law in laws if law is not None]
        return len(found) == len(READINGS) and all(law.axes.reaches(part) for law in found)

    def estimate(self, parts: Sequence[Part], reading: str) -> list[Estimate]:
        """What these parts take; all kinds must have a law."""
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


def _common(laws: Iterable[Law]) -> Array:
    """Coefficients of all kinds together."""
    known = list(laws)
    rows = np.concatenate([law.rows / law.ms[:, None] for law in known])
    size = rows.mean(0)
    size = np.where(size > 0, size, 1.0)
    found: Array = nnls(rows / size, np.ones(len(rows)))[0] / size
    return found
