"""The functions between the matrices of perceptrons, by name; each is zero at zero."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor


def relu2(x: Tensor) -> Tensor:
    """The square of relu (So et al. 2021 (Primer), arXiv:2109.08668)."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "relu2": relu2,
}
"""GELU is that of Hendrycks and Gimpel 2016, arXiv:1606.08415, by the error function or by their tanh."""
