"""LayerNorm: x less its mean, over its standard deviation (Ba et al. 2016, arXiv:1607.06450).

    y = g * (x - mean(x)) / sqrt(var(x) + epsilon) + b

Shapes: D d_model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from search_spaces.network.norms.base import Norm, norms


@norms.add
@dataclass(frozen=True, kw_only=True)
class LayerNorm(Norm):
    """Layer norm with a gain g and a bias b [D]."""

    vectors: ClassVar[Mapping[str, float]] = {"norm": 1.0, "norm_bias": 0.0}

    epsilon: float = 1e-5

    def apply(self, x: Tensor, shape: Sequence[int], vectors: Sequence[Tensor] = ()) -> Tensor:
        """x normalized; without a gain and a bias, by its mean and standard deviation alone."""
        gain, bias = vectors or (None, None)
        return F.layer_norm(x, shape, gain, bias, self.epsilon)
