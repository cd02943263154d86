"""RMSNorm: x over its root mean square (Zhang and Sennrich 2019, arXiv:1910.07467).

    y = g * x / sqrt(mean(x^2) + epsilon)

Shapes: D d_model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from search_spaces.network.norms.base import Norm, norms
from search_spaces.ops.precision import rms_norm


@norms.add
@dataclass(frozen=True, kw_only=True)
class RMSNorm(Norm):
    """Root mean square norm with a gain g [D]."""

    vectors: ClassVar[Mapping[str, float]] = {"norm": 1.0}

    def apply(self, x: Tensor, shape: Sequence[int], vectors: Sequence[Tensor] = ()) -> Tensor:
        """x normalized; without a gain, by its root mean square alone."""
        return rms_norm(x, shape, vectors[0] if vectors else None, self.epsilon)


DEFAULT = RMSNorm()
"""The norm of a network that names none: one value, so that most comparisons are of identities."""
