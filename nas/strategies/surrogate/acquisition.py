"""How much hypervolume a candidate is expected to add to a front, given means and errors of its objectives.

For up to two objectives exactly. The volume that a point y adds is that of the places a which it dominates
and the front does not, so its expectation is the integral of P(y_1 <= a_1) P(y_2 <= a_2) over what the front
leaves, which is a sum over the steps of its staircase (as in Emmerich, Deutz and Klinkenberg 2011, CEC). For
more, hypervolume is the mean over random directions of a scalar (Golovin and Zhang 2020, arXiv:2006.04655,
Lemma 5), and improvements of that are averaged over as many draws.

Everything is minimised. Shapes: N candidates, F points of the front, K objectives, S directions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]

DIRECTIONS = 512


def expected_improvement(
    means: Array, deviations: Array, front: Array, reference: Array, chance: np.random.Generator
) -> Array:
    """The expected gain of each candidate, (N,), with (N, K) means and deviations over a front (F, K)."""
    front = front[(front < reference).all(axis=1)]
    if means.shape[1] == 1:
        best = front.min() if len(front) else reference[0]
        gains: Array = _below(np.array([best]), means[:, :1], deviations[:, :1])[:, 0]
        return gains
    if means.shape[1] == 2:
        return _exact(means, deviations, front, reference)
    return _sampled(means, deviations, front, reference, chance)


def _exact(means: Array, deviations: Array, front: Array, reference: Array) -> Array:
    """Over the steps of the staircase: between two points in the first objective, below one in the second."""
    order = np.lexsort((front[:, 1], front[:, 0]))
    stairs = front[order]
    ends = np.append(stairs[:, 0], reference[0])
    heights = np.append(reference[1], np.minimum.accumulate(stairs[:, 1]))
    wide = np.diff(_below(ends, means[:, :1], deviations[:, :1]), axis=1, prepend=0)
    gains: Array = np.einsum("nf,nf->n", wide, _below(heights, means[:, 1:], deviations[:, 1:]))
    return gains


def _below(bounds: Array, means: Array, deviations: Array) -> Array:
    """The integral of P(y <= a) over all a below each bound: (N, bounds)."""
    z = (bounds[None, :] - means) / deviations
    integral: Array = deviations * (z * ndtr(z) + np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi))
    return integral


def _sampled(
    means: Array, deviations: Array, front: Array, reference: Array, chance: np.random.Generator
) -> Array:
    count = means.shape[1]
    directions = np.abs(chance.standard_normal((DIRECTIONS, count))) + 1e-9
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    noise = chance.standard_normal((DIRECTIONS, count))
    reached = np.zeros(DIRECTIONS)
    if len(front):
        lengths = ((reference - front)[:, None, :] / directions[None, :, :]).min(axis=2)
        reached = np.maximum(lengths.max(axis=0), 0)
    nearest = np.full((len(means), DIRECTIONS), np.inf)
    for k in range(count):
        drawn = means[:, k, None] + deviations[:, k, None] * noise[None, :, k]
        np.minimum(nearest, (reference[k] - drawn) / directions[None, :, k], out=nearest)
    gains: Array = np.maximum(np.maximum(nearest, 0) ** count - reached**count, 0).mean(axis=1)
    return gains
