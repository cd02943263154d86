"""The functions between the matrices of perceptrons, by name; each is zero at zero.

Those of gated perceptrons take the gate and what it gates, and are zero where the gate is.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def relu2(x: Tensor) -> Tensor:
    """The square of relu (So et al. 2021 (Primer), arXiv:2109.08668)."""
    return F.relu(x).square()


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by a tanh; spelt out in programs, since XNNPACK computes that by the error function instead."""
    if torch.compiler.is_exporting():
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "relu": F.relu,
    "relu2": relu2,
}
"""GELU is that of Hendrycks and Gimpel 2016, arXiv:1606.08415, by the error function or by their tanh.

All are plain functions: `torch.compile` before torch 2.13 cannot read a `partial` that a block holds.
"""


ALPHA, LIMIT = 1.702, 7.0


def clamped_silu(gate: Tensor, up: Tensor) -> Tensor:
    """g sigmoid(1.702 g) (u + 1) with both inputs cut off at 7 (gpt-oss 2025, arXiv:2508.10925)."""
    gate = gate.clamp(max=LIMIT)
    return gate * (ALPHA * gate).sigmoid() * (up.clamp(-LIMIT, LIMIT) + 1)


def _gating(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def gated(gate: Tensor, up: Tensor) -> Tensor:
        return activation(gate) * up

    return gated


GATED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    **{name: _gating(activation) for name, activation in ACTIVATIONS.items()},
    "clamped_silu": clamped_silu,
}
"""What a gate makes of what it gates: their product behind an activation, or that of gpt-oss."""
