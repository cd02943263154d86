"""Fronts and hypervolume, computed by moocore; everything is minimised (maximised values are negated)."""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


def nondominated(points: Sequence[Sequence[float]] | Points) -> list[bool]:
    """Which points no other point dominates; of equal points only the first counts."""
    kept: list[bool] = nondominated_mask(np.asarray(points, dtype=float)).tolist()
    return kept


def nondominated_mask(points: Points) -> NDArray[np.bool_]:
    """The same of points, shape [points, objectives], as a mask."""
    if not len(points):
        return np.zeros(0, dtype=bool)
    kept: NDArray[np.bool_] = moocore.is_nondominated(points, keep_weakly=False)
    return kept


def signs_of(least: Points, most: Points) -> NDArray[np.int8]:
    """By axis, the sign that all values have between these; 0 where they do not have one."""
    signs: NDArray[np.int8] = (least > 0).astype(np.int8) - (most < 0).astype(np.int8)
    return signs


def in_logarithms(points: Points, signs: NDArray[np.int8]) -> Points:
    """Points with the axes that have a sign in logarithms, in which twice as fast counts the same everywhere.

    Those that are maximised come negated, and stay so.
    """
    points = points.copy()
    for axis in np.flatnonzero(signs):
        points[:, axis] = signs[axis] * np.log(signs[axis] * points[:, axis])
    return points


def reference_point(points: Sequence[Sequence[float]] | Points) -> Points:
    """A point a tenth of the range beyond the worst value in each objective."""
    values = np.asarray(points, dtype=float)
    worst, best = values.max(axis=0), values.min(axis=0)
    span = np.where(worst > best, worst - best, np.maximum(np.abs(worst), 1e-12))
    reference: Points = worst + 0.1 * span
    return reference


def hypervolume(points: Sequence[Sequence[float]] | Points, reference: Points) -> float:
    """The volume that `points` dominate below `reference`."""
    if not len(points):
        return 0.0
    return float(moocore.hypervolume(np.asarray(points, dtype=float), ref=reference))


def hypervolume_trace(points: Sequence[Sequence[float]], reference: Points) -> list[float]:
    """The hypervolume after each point, in order."""
    front: list[Sequence[float]] = []
    trace: list[float] = []
    for point in points:
        if not any(all(a <= b for a, b in zip(other, point, strict=True)) for other in front):
            front = [other for other in front if not all(a <= b for a, b in zip(point, other, strict=True))]
            front.append(point)
            trace.append(hypervolume(front, reference))
        else:
            trace.append(trace[-1])
    return trace


def spread(points: Sequence[Sequence[float]], count: int) -> list[int]:
    """Indices of up to `count` points far from each other, the best in the first objective among them."""
    if not len(points) or count < 1:
        return []
    values = np.asarray(points, dtype=float)
    span = np.ptp(values, axis=0)
    scaled = (values - values.min(axis=0)) / np.where(span > 0, span, 1.0)
    chosen = [int(values[:, 0].argmin())]
    distance = np.linalg.norm(scaled - scaled[chosen[0]], axis=-1)
    while len(chosen) < min(count, len(values)):
        distance[chosen] = -1.0
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[chosen[-1]], axis=-1))
    return chosen


def by_rank_and_spread(points: Sequence[Sequence[float]], count: int) -> list[int]:
    """Up to `count` indices: whole fronts first, and of the front that does not fit, a spread."""
    left, chosen = list(range(len(points))), list[int]()
    while left and len(chosen) < count:
        kept = nondominated([points[i] for i in left])
        front = [i for i, keep in zip(left, kept, strict=True) if keep]
        chosen += [front[j] for j in spread([points[i] for i in front], count - len(chosen))]
        left = [i for i, keep in zip(left, kept, strict=True) if not keep]
    return chosen
