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

from foundation.errors import IllegalArchitecture
from search_spaces.network.norms.base import Norm, norms


@norms.add
@dataclass(frozen=True, kw_only=True)
class LayerNorm(Norm):
    """Layer norm with a gain g and, unless `bias` is false, a bias b [D]."""

    vectors: ClassVar[Mapping[str, float]] = {"norm": 1.0, "norm_bias": 0.0}

    epsilon: float = 1e-5
    bias: bool = True

    @property
    def held(self) -> Mapping[str, float]:
        """The gain, and the bias where it has one."""
        return self.vectors if self.bias else {"norm": 1.0}

    def check(self) -> None:
        """Raise `IllegalArchitecture` for values out of range."""
        super().check()
        if not isinstance(self.bias, bool):
            raise IllegalArchitecture(f"LayerNorm: bias must be true or false, got {self.bias!r}")

    def apply(self, x: Tensor, shape: Sequence[int], vectors: Sequence[Tensor] = ()) -> Tensor:
        """x normalized; without a gain and a bias, by its mean and standard deviation alone."""
        gain, bias = (*vectors, None, None)[:2]
        return F.layer_norm(x, shape, gain, bias, self.epsilon)
