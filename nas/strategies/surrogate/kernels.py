"""Similarities of candidates, of which a model learns the weights.

Effects of single genes and of pairs of genes, effects of what is summed over like places (and of pairs of
sums: a width times a depth), effects of a part as a whole (how many layers are the very same), and, for what
is none of these, how many genes differ at all.
"""

from __future__ import annotations

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
        return Similarities(self.between[:, which], self.own[:, which])


class Kernels:
    """Similarities to `centres`, each kind scaled to a mean of one of these with themselves."""

    def __init__(self, centres: Features, *, repeats: bool) -> None:
        self.centres, self.repeats = centres, repeats
        self._norms = [_squares(part) for part in (centres.genes, centres.sums)]
        # what is not asked resembles nothing
        self._parts = np.where(centres.parts > 0, centres.parts, np.uint32(2)).T
        self._lengths = [max(float(norms.mean()), 1e-9) for norms in self._norms]
        spread = [float(part.var(axis=0).sum()) for part in (centres.genes, centres.sums)]
        self._spreads = [max(2 * variance, 1e-9) for variance in spread]
        self._scales = np.ones(self.kinds)
        self._scales = 1 / np.maximum(self(centres).own.mean(axis=1), 1e-12)

    @property
    def kinds(self) -> int:
        """How many similarities there are."""
        return 9 if self.repeats else 6

    def __call__(self, features: Features) -> Similarities:
        """The similarities of N candidates to the M centres."""
        between = np.ones((self.kinds, len(features.genes), len(self.centres.genes)))
        own = np.ones((self.kinds, len(features.genes)))
        kind = 1
        parts = 2 if self.repeats else 1
        for part in range(parts):
            x, centres = (features.genes, features.sums)[part], (self.centres.genes, self.centres.sums)[part]
            product, square = x @ centres.T, _squares(x)
            np.divide(product, self._lengths[part], out=between[kind])
            np.square(between[kind], out=between[kind + 1])
            own[kind] = square / self._lengths[part]
            own[kind + 1] = own[kind] ** 2
            kind += 2
            distance = np.maximum(square[:, None] + self._norms[part][None, :] - 2 * product, 0)
            for scale in (NEAR, FAR) if part == 0 else (FAR,):
                np.exp(distance * (-0.5 / (self._spreads[part] * scale**2)), out=between[kind])
                kind += 1
        same = np.zeros(between[0].shape, np.uint16)
        for mine, theirs in zip(features.parts.T, self._parts, strict=True):
            same += mine[:, None] == theirs[None, :]
        between[kind], own[kind] = same, (features.parts > 0).sum(axis=1)
        between *= self._scales[:, None, None]
        return Similarities(between, own * self._scales[:, None])


def _squares(x: Array) -> Array:
    squares: Array = np.einsum("nd,nd->n", x, x)
    return squares
