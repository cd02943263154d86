"""The undominated values of networks that are chains of layers, exactly but for rounding.

A front is found by going through the layers with all undominated beginnings, apart by what later layers
still have to know of them (their state: the last mixer, say).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nas.pareto import nondominated

Points = NDArray[np.float64]
"""Shape (N, 2): cost and loss, which are sums over the layers."""

Step: TypeAlias = Callable[[int, Hashable, Hashable], tuple[Hashable, tuple[float, float]]]
"""From the layer's number, the state before and the kind of layer: the state then, and what is added."""

ROUNDED = 400
"""Undominated beginnings that are kept apart, along the range of costs."""


def chained(
    depths: tuple[int, ...], options: Callable[[int], Mapping[Hashable, Points]], step: Step
) -> dict[int, Points]:
    """The values of the undominated chains, by depth; `options` are a layer's, by kind; None is before it."""
    states: dict[Hashable, Points] = {None: np.zeros((1, 2))}
    found = {}
    for layer in range(max(depths)):
        kinds = options(layer)
        reached: dict[Hashable, list[Points]] = {}
        for state, points in states.items():
            for kind, values in kinds.items():
                after, added = step(layer, state, kind)
                both = points[:, None, :] + (values + added)[None, :, :]
                reached.setdefault(after, []).append(both.reshape(-1, 2))
        states = {state: thinned(np.vstack(several)) for state, several in reached.items()}
        if layer + 1 in depths:
            found[layer + 1] = undominated(np.vstack(list(states.values())))
    return found


def undominated(points: Points) -> Points:
    """Those that no other is better than."""
    kept: Points = points[np.array(nondominated(points), dtype=bool)]
    return kept


def thinned(points: Points) -> Points:
    """The undominated ones, the best of each small range of costs."""
    points = undominated(points)
    if len(points) <= ROUNDED:
        return points
    points = points[np.argsort(points[:, 0])]
    bins = ((points[:, 0] - points[0, 0]) / (np.ptp(points[:, 0]) + 1e-12) * ROUNDED).astype(int)
    return points[np.flatnonzero(np.diff(bins, append=bins[-1] + 1))]
