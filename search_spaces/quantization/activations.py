"""Activations at 8 bits: what enters a matrix product of a layer is rounded, outside the blocks.

Every token has its own scale. With float8 all of its values are rounded, with integers all but its outliers
(LLM.int8, Dettmers et al. 2022, arXiv:2208.07339). While the mode `RoundedActivations` is entered, the inputs
of all matrix products are rounded; `search_spaces.network.residual.Residual` enters it where its layer has
activations of 8 bits.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from search_spaces.ops.experts import linear_each
from search_spaces.ops.linear import linear_per_head, multiplied_elsewhere
from search_spaces.ops.precision import own_types
from search_spaces.quantization.bits import FLOAT8, FLOAT8_LARGEST

OUTLIER = 6.0
"""Activations beyond this are not rounded to integers: the threshold of LLM.int8."""


def round_activations(x: Tensor, numbers: str = "int") -> Tensor:
    """x [..., D] rounded to 8 bits with one scale per token; the gradient passes straight through.

    float8 takes its scale from the largest value: its steps are relative, so it needs no exceptions. With
    integers, values beyond 6 are not rounded and do not count for the scale. LLM.int8 keeps every column
    apart that has such a value in any token; here a token has its own outliers, because its rounding must not
    depend on other tokens, or decode would not equal prefill.
    """
    rounded: Tensor = _RoundActivations.apply(x, numbers)
    return rounded


def float8_activations(x: Tensor) -> tuple[Tensor, Tensor]:
    """float8 codes [..., D] and float32 scales [..., 1] of activations."""
    exact = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    scale = exact.abs().amax(-1, keepdim=True) / FLOAT8_LARGEST
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (exact / scale).to(FLOAT8), scale


def activation_codes(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes (as floats), scales [..., 1] and the mask of outliers, whose codes are zero."""
    exact = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    outlier = exact.abs() > OUTLIER
    rest = exact.masked_fill(outlier, 0.0)
    scale = rest.abs().amax(-1, keepdim=True) / 127
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (rest / scale).round(), scale, outlier


@own_types
class _RoundActivations(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, numbers: str) -> Tensor:
        if numbers == "float":
            codes, scale = float8_activations(x)
            return (codes.to(scale.dtype) * scale).to(x.dtype)
        codes, scale, outlier = activation_codes(x)
        return torch.where(outlier, x, (codes * scale).to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


PRODUCTS = (F.linear, F.grouped_mm, linear_each, linear_per_head, multiplied_elsewhere)
"""The functions that multiply activations by weights inside a layer."""


class RoundedActivations(TorchFunctionMode):
    """While it is entered, the inputs of `PRODUCTS` are rounded to 8 bits, of these `numbers`."""

    def __init__(self, numbers: str = "int") -> None:
        super().__init__()
        self.numbers = numbers

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Round the first argument of a product, and nothing else."""
        if func in PRODUCTS:
            args = (round_activations(args[0], self.numbers), *args[1:])
        return func(*args, **(kwargs or {}))
