"""The leading bits of integer weights: fewer bits of the same matrix, without a second copy of it.

A code c of b bits, in two's complement, holds one of l < b bits in its leading ones (Nair et al. 2025,
Matryoshka Quantization, arXiv:2502.06786, section 3.1):

    q = floor(c / 2^(b-l));     value = s (q 2^(b-l) + (2^(b-l) - 1) / 2)

the middle of the codes that begin with q; s is the scale of c. They round to the nearest q instead, which the
bits that are left out have a say in: here the leading bits alone say the value, so that whoever reads fewer
bits reads fewer bytes. For it zero is no value: what was pruned is half a step away from it at fewer bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from search_spaces.ops.precision import own_types
from search_spaces.quantization.bits import WeightFormat
from search_spaces.quantization.rounding import codes_and_scales

INTEGERS = (8, 6, 4, 3)
"""Bits of weights whose codes have leading bits."""

FEWER = (6, 4, 3, 2)
"""How many leading bits there may be."""


def leading_bits(weight: Tensor, stored: WeightFormat, bits: int) -> Tensor:
    """A matrix [..., K] read by the leading `bits` of the codes that it is stored in.

    The gradient passes straight through (Bengio et al. 2013, arXiv:1308.3432).
    """
    read: Tensor = _LeadingBits.apply(weight, stored, bits)
    return read


@own_types
class _LeadingBits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, stored: WeightFormat, bits: int) -> Tensor:
        codes, scale = codes_and_scales(weight, stored)
        span = 2 ** (int(stored.bits) - bits)
        middle = (codes / span).floor() * span + (span - 1) / 2
        return (middle * scale.to(weight.dtype)).flatten(-2)[..., : weight.shape[-1]].contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0], None, None
