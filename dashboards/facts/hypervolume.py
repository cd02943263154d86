"""Hypervolumes of several fronts below one reference point: their errors, and points in natural units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from dashboards.facts.quantities import Quantity
from nas.pareto import Points, hypervolume, nondominated

RESAMPLES = 200

Coordinates: TypeAlias = tuple[float, ...]
"""A network's objectives, in the order of the comparison."""


def share_errors(
    fronts: Sequence[Sequence[Coordinates]],
    samples: Sequence[Sequence[tuple[float, ...]]],
    axis: int | None,
    reference: Points,
    *,
    seed: int = 0,
) -> list[float | None]:
    """The standard error of each front's share of the joint volume, by resampling validation windows.

    `samples` are the scores of each network of each front, window by window, in the direction where less is
    better; their mean stands at `axis`. All networks were scored on the same windows, so one resample serves
    all of them. None where scores have no windows. The variance between seeds of training or of the search is
    not included.
    """
    lengths = {len(windows) for front in samples for windows in front}
    if axis is None or len(lengths) > 1 or min(lengths) < 2:
        return [None] * len(fronts)
    dice = np.random.default_rng(seed)
    resampled, scores = [np.array(front) for front in fronts], [np.array(front) for front in samples]
    shares = []
    for _ in range(RESAMPLES):
        windows = dice.integers(min(lengths), size=min(lengths))
        for points, by_window in zip(resampled, scores, strict=True):
            points[:, axis] = by_window[:, windows].mean(axis=1)
        joint = hypervolume(np.concatenate(resampled), reference)
        shares.append([hypervolume(front, reference) / joint if joint > 0 else 0.0 for front in resampled])
    return [float(error) for error in np.std(shares, axis=0, ddof=1)]


def distinct_nondominated(points: Sequence[Coordinates]) -> list[Coordinates]:
    """The points that no other dominates, each once."""
    distinct = sorted(set(points))
    return [point for point, keep in zip(distinct, nondominated(distinct), strict=True) if keep]


def in_natural_units(
    point: Points, logarithmic: Sequence[bool], quantities: Sequence[Quantity]
) -> Coordinates:
    """A point whose objectives are minimised, some in logarithms, in the objectives' own units."""
    values = []
    for value, is_logarithm, quantity in zip(point.tolist(), logarithmic, quantities, strict=True):
        sign = -1.0 if quantity.maximise else 1.0
        values.append(math.exp(sign * value) if is_logarithm else sign * value)
    return tuple(values)
