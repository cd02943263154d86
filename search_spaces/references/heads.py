"""What the references of recurrences share: heads that are computed one by one, and their parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from search_spaces.references import Function, Weights

Head: TypeAlias = Callable[[Tensor, Weights, int], Tensor]
"""What one head gives [B, T, P], of x, all weights in float64, and its number."""


def head_by_head(spec: Any, weights: Weights, head: Head) -> Function:
    """The sum over heads of what `head(x, weights, h)` [B, T, P] gives to the output, in float64."""
    exact = {name: weight.double() for name, weight in weights.items()}

    def reference(x: Tensor) -> Tensor:
        heads = exact["wo"].shape[1]
        return sum((head(x.double(), exact, h) @ exact["wo"][:, h].T for h in range(heads)), torch.zeros(()))

    return reference


def normed(o: Tensor, weight: Tensor, bias: Tensor | float = 0.0, eps: float = 1e-6) -> Tensor:
    """Group norm of one head o [B, T, P]."""
    centred = o - o.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias


def silu(x: Tensor) -> Tensor:
    """x sigmoid(x)."""
    return x * torch.sigmoid(x)


def log_forget(a: Tensor, gate: str) -> Tensor:
    """The logarithm of a forget gate."""
    return -torch.log1p(torch.exp(-a)) if gate == "sigmoid" else a
