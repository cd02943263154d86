"""How the front grew: the volume that it dominates after so many trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dashboards.facts.quantities import Quantity
from dashboards.facts.scored import Numbers, Scored
from nas.pareto import hypervolume, reference_point

MOST_STEPS = 400
"""Improvements of the front after which the volume is taken; of more, evenly spaced ones."""

PIECE = 4096
"""Networks that are held against the front at once."""


@dataclass(frozen=True)
class HypervolumeFacts:
    """The volume that the front dominates after the trials of these numbers, as a share of its final value.

    Between two of them it does not change, or where the front improved very often, little.
    """

    numbers: tuple[int, ...]
    shares: tuple[float, ...]


def growth(scored: Scored, objectives: Sequence[Quantity]) -> HypervolumeFacts | None:
    """The growth of a front in all objectives; None for less than two networks."""
    return growths({"": scored}, objectives).get("")


def growths(studies: Mapping[str, Scored], objectives: Sequence[Quantity]) -> dict[str, HypervolumeFacts]:
    """The growth of several fronts below one reference point, as shares of the largest final volume.

    Left out are studies of less than two networks, and networks that lack one of the objectives.
    """
    costs = {name: scored.costs(objectives) for name, scored in studies.items()}
    known = {name: np.isfinite(points).all(axis=1) for name, points in costs.items()}
    told = [name for name, rows in known.items() if rows.sum() >= 2]
    if not told:
        return {}
    costs = {name: costs[name][known[name]] for name in told}
    reference = reference_point(np.concatenate(list(costs.values())))
    volumes = {name: _volumes(points, reference) for name, points in costs.items()}
    final = max(found[-1][1] for found in volumes.values()) or 1.0
    return {
        name: HypervolumeFacts(
            tuple(int(studies[name].numbers[known[name]][place]) for place, _ in found),
            tuple(volume / final for _, volume in found),
        )
        for name, found in volumes.items()
    }


def improvements(costs: Numbers) -> list[int]:
    """The places of the points, shape [points, objectives], that no earlier one dominated or equalled."""
    front, steps = np.empty((0, costs.shape[1])), list[int]()
    start = 0
    while start < len(costs):
        piece = costs[start : start + min(PIECE, max(16, start))]
        for offset in np.flatnonzero(~beaten(piece, front)).tolist():
            point = piece[offset]
            if not (front <= point).all(axis=1).any():
                front = np.vstack([front[~(point <= front).all(axis=1)], point])
                steps.append(start + offset)
        start += len(piece)
    return steps


def beaten(points: Numbers, front: Numbers) -> np.ndarray:
    """Which points some member of a front is no worse than in anything."""
    left = np.arange(len(points))
    columns = [np.ascontiguousarray(column) for column in points.T]
    for member in front:
        better = np.zeros(len(left), dtype=bool)
        for value, column in zip(member, columns, strict=True):
            better |= column < value
        left, columns = left[better], [column[better] for column in columns]
        if not len(left):
            break
    found = np.ones(len(points), dtype=bool)
    found[left] = False
    return found


def _volumes(costs: Numbers, reference: Numbers) -> list[tuple[int, float]]:
    """The places of points after which the volume is told, with the volume; the last point among them."""
    steps = improvements(costs)
    shown = {*steps[:: -(-len(steps) // MOST_STEPS)], steps[-1]}
    front, volumes = np.empty((0, costs.shape[1])), list[tuple[int, float]]()
    for step in steps:
        point = costs[step]
        front = np.vstack([front[~(point <= front).all(axis=1)], point])
        if step in shown:
            volumes.append((step, hypervolume(front, reference)))
    last = len(costs) - 1
    return [*volumes, *([(last, volumes[-1][1])] if steps[-1] != last else [])]
