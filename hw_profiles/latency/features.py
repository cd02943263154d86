"""A part as numbers: what a regression is fitted to, and the coordinates that its residuals lie over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hw_profiles.latency.parts import Part
from hw_profiles.runtimes.base import runtime_of
from search_spaces.language.printing import brief
from search_spaces.language.serialization import to_plain
from search_spaces.network.cost import parameter_shapes
from search_spaces.network.options.reads_embedding import ReadsEmbedding
from search_spaces.network.shell import Shell
from search_spaces.scenario import Scenario

Array: TypeAlias = NDArray[np.float64]

EXTRAPOLATED = 1.0
"""Doublings beyond what was measured that are still estimated."""


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
        more = ReadsEmbedding().cost(Shell(1, part.d_model), scenario)
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
    found["norm"] = brief(part.norm)
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
        return bool(
            ((x >= self.low - EXTRAPOLATED) & (x <= self.high + EXTRAPOLATED)).all()
        )  # not a number is beyond

    def within_reach(self, chosen: Sequence[int]) -> bool:
        """Whether all parts that the axes were made of are within reach of a few of them."""
        low, high = self.x[chosen].min(0), self.x[chosen].max(0)
        return bool(((self.low >= low - EXTRAPOLATED) & (self.high <= high + EXTRAPOLATED)).all())

    def distances(self, parts: Sequence[Part]) -> Array:
        """Squared distances [P, measured], in doublings; another category is one doubling away."""
        x, levels = self.encode(parts)
        gaps = np.nan_to_num((x[:, None] - self.x[None]) ** 2, nan=4.0).sum(-1)
        return gaps + (levels[:, None] != self.levels[None]).sum(-1)
