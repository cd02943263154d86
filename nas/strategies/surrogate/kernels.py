"""Similarities of candidates, of which a model learns the weights.

Effects of single genes and of pairs of genes, effects of what is summed over like places (and of pairs of
sums: a width times a depth), effects of a part as a whole (how many layers are the very same), and, for what
is none of these, how many genes differ at all.
"""

from __future__ import annotations

from copy import copy
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas.strategies.surrogate.features import Features

Array = NDArray[np.float64]

NEAR, FAR = 0.35, 1.0
"""Length scales of the local similarities, in units of a typical distance."""


class Similarities(NamedTuple):
    """Similarities by kind: `between` two sets (P, N, M), and of every candidate with itself (P, N)."""

    between: Array
    own: Array

    def take(self, which: NDArray[np.bool_]) -> Similarities:
        """Those of some of the N."""
        return self if which.all() else Similarities(self.between[:, which], self.own[:, which])


class Kernels:
    """Similarities to `centres`, each kind scaled to a mean of one of these with themselves.

    By `relevance` a feature counts so many times in what genes have in common, and in how far they differ.
    """

    def __init__(self, centres: Features, *, repeats: bool) -> None:
        self.centres, self.repeats = centres, repeats
        self._root = np.ones(centres.genes.shape[1])
        self._genes = centres.genes
        # what is not asked resembles nothing
        self._parts = np.where(centres.parts > 0, centres.parts, np.uint32(2)).T
        squares = [_squares(part) for part in (centres.genes, centres.sums)]
        self._lengths = [max(float(norms.mean()), 1e-9) for norms in squares]
        spread = [float(part.var(axis=0).sum()) for part in (centres.genes, centres.sums)]
        self._spreads = [max(2 * variance, 1e-9) for variance in spread]
        self._scales = np.ones(self.kinds)
        self._scales = 1 / np.maximum(self(centres).own.mean(axis=1), 1e-12)

    def by(self, relevance: Array) -> Kernels:
        """The same where features have this relevance, (D,)."""
        if (relevance == 1).all():
            return self
        other = copy(self)
        other._root = np.sqrt(relevance)
        other._genes = self.centres.genes * other._root
        return other

    def among(self, which: NDArray[np.int64]) -> Kernels:
        """The same for some of the centres."""
        other = copy(self)
        other.centres = self.centres.take(which)
        other._genes, other._parts = self._genes[which], self._parts[:, which]
        return other

    @property
    def kinds(self) -> int:
        """How many similarities there are."""
        return 9 if self.repeats else 6

    def __call__(self, features: Features, beside: Similarities | None = None) -> Similarities:
        """The similarities of N candidates to the M centres.

        Should they be known already for another relevance, those are `beside`, and spare most of the work.
        """
        if beside is None:
            between = np.ones((self.kinds, len(features.genes), len(self.centres.genes)))
            own = np.ones((self.kinds, len(features.genes)))
            if self.repeats:
                self._fill(5, (features.sums, self.centres.sums), (FAR,), between, own)
            self._count_parts(features, between[-1], own[-1])
        else:
            between, own = np.empty_like(beside.between), beside.own.copy()
            between[0], between[5:] = beside.between[0], beside.between[5:]
        self._fill(1, (features.genes * self._root, self._genes), (NEAR, FAR), between, own)
        return Similarities(between, own)

    def _fill(
        self,
        kind: int,
        sides: tuple[Array, Array],
        reaches: tuple[float, ...],
        between: Array,
        own: Array,
    ) -> None:
        """Products, their squares, and what falls off with distance, from this kind on."""
        x, centres = sides
        which = 0 if kind == 1 else 1
        scales = self._scales[kind:]
        product, square = x @ centres.T, _squares(x)
        np.multiply(product, scales[0] / self._lengths[which], out=between[kind])
        np.multiply(product, product * (scales[1] / self._lengths[which] ** 2), out=between[kind + 1])
        own[kind] = square * (scales[0] / self._lengths[which])
        own[kind + 1] = square**2 * (scales[1] / self._lengths[which] ** 2)
        distance = square[:, None] + _squares(centres)[None, :] - 2 * product
        np.maximum(distance, 0, out=distance)
        for i, reach in enumerate(reaches, 2):
            near = between[kind + i]
            np.multiply(distance, -0.5 / (self._spreads[which] * reach**2), out=near)
            np.exp(near, out=near)
            near *= scales[i]
            own[kind + i] = scales[i]

    def _count_parts(self, features: Features, between: Array, own: Array) -> None:
        same = np.zeros(between.shape, np.uint8 if len(self._parts) < 256 else np.uint16)
        for mine, theirs in zip(features.parts.T, self._parts, strict=True):
            # as bytes: adding truth values takes longer
            same += (mine[:, None] == theirs[None, :]).view(np.uint8)
        np.multiply(same, self._scales[-1], out=between)
        np.multiply((features.parts > 0).sum(axis=1), self._scales[-1], out=own)

    def slopes(self, similarities: Similarities, weights: Array, slack: Array) -> Array:
        """How the sum of `slack` (M, M) times the covariance of the centres rises with each log relevance."""
        linear, local = self._scales[1] / self._lengths[0], -0.5 / self._spreads[0]
        between = similarities.between
        pairs = 2 * self._scales[2] / self._scales[1] / self._lengths[0] * between[1]
        along = slack * (weights[1] * linear + weights[2] * pairs)
        apart = slack * (
            weights[3] * (local / NEAR**2) * between[3] + weights[4] * (local / FAR**2) * between[4]
        )
        x = self._genes
        slopes: Array = np.einsum("nd,nd->d", x, (along - 2 * apart) @ x) + 2 * apart.sum(axis=1) @ x**2
        return slopes


def _squares(x: Array) -> Array:
    squares: Array = np.einsum("nd,nd->n", x, x)
    return squares
