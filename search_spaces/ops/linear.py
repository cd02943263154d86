"""Matrix products with weights that keep one axis per dimension, and how such weights are filled.

The last axis of a weight is the input axis. Weights may be slices of larger ones: flattening copies only
where it must.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from search_spaces.ops.precision import rms_norm


def project(x: Tensor, weight: Tensor) -> Tensor:
    """x [..., D] by weight [H, K, D] (or more axes) gives [..., H, K]."""
    return F.linear(x, weight.flatten(0, -2)).view(*x.shape[:-1], *weight.shape[:-1])


def merge(y: Tensor, weight: Tensor) -> Tensor:
    """y [..., H, K] by weight [D, H, K] gives [..., D]."""
    return F.linear(y.flatten(-2), weight.flatten(1))


def linear_per_head(x: Tensor, weight: Tensor) -> Tensor:
    """x [H, R, K] by a weight [H, J, K] gives [H, R, J]; a `TorchFunctionMode` sees one function of torch."""
    if has_torch_function((x, weight)):
        product: Tensor = handle_torch_function(linear_per_head, (x, weight), x, weight)
        return product
    return torch.bmm(x, weight.contiguous().mT)


def multiplied_elsewhere(x: Tensor) -> Tensor:
    """x unchanged, where its product with parameters is computed in another order.

    (W x)'q is x'(W'q): there is no product with x any more. A `TorchFunctionMode` sees this as one function
    of torch instead, so that x can be rounded as in the product.
    """
    if has_torch_function((x,)):
        same: Tensor = handle_torch_function(multiplied_elsewhere, (x,), x)
        return same
    return x


def fill(weight: Tensor, fan_in: int, dice: torch.Generator) -> None:
    """Normal values of variance 1 / fan_in, in place."""
    weight.normal_(std=fan_in**-0.5, generator=dice)


def head_norm(y: Tensor, weight: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Root mean square norm over the last axis."""
    return rms_norm(y, weight.shape, weight, epsilon)
