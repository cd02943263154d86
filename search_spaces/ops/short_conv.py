"""Causal depthwise convolution with a kernel of a few taps.

    y_t = bias + sum_j w_j x_{t-j}        one kernel per channel; tap j looks j tokens back

A leading slice of a kernel is thus a kernel of the latest tokens. A sum of shifted products: for a handful of
taps that is faster on a CPU than a grouped convolution; its gradient is written out to save copies.

Shapes: B batch, T tokens, D channels, k taps.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from search_spaces.ops.precision import own_types


def short_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, before: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Outputs [B, T, D] of x [B, T, D], and the last k - 1 inputs [B, k-1, D], which are the state.

    weight is [D, k]; `before` holds the inputs before the first (zeros if None).
    """
    taps, count = weight.shape[-1], x.shape[1]
    past = x.new_zeros(x.shape[0], taps - 1, x.shape[2]) if before is None else before.to(x.dtype)
    extended = torch.cat((past, x), dim=1)
    # a copy, so that the state does not keep the whole sequence in memory
    last = extended[:, count:].clone()
    if count == 1:
        y = (extended * weight.mT.flip(0)).sum(1, keepdim=True)
        return y if bias is None else y + bias, last
    return _ShortConv.apply(extended, weight, bias), last


def short_conv_plainly(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The same by PyTorch's convolution."""
    taps = weight.shape[-1]
    return F.conv1d(F.pad(x.mT, (taps - 1, 0)), weight.flip(-1)[:, None], bias, groups=weight.shape[0]).mT


@own_types
class _ShortConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, extended: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(extended, weight)
        ctx.biased = bias is not None
        first, *others = _shifts(extended, weight)
        y = first * weight[:, 0] if bias is None else torch.addcmul(bias, first, weight[:, 0])
        for tap, shifted in enumerate(others, start=1):
            y.addcmul_(shifted, weight[:, tap])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        grad = grads[0]
        extended, weight = ctx.saved_tensors
        to_extended, to_taps = torch.zeros_like(extended), []
        shifts = zip(_shifts(extended, weight), _shifts(to_extended, weight), strict=True)
        for tap, (shifted, to_shifted) in enumerate(shifts):
            to_shifted.addcmul_(grad, weight[:, tap])
            to_taps.append((grad * shifted).flatten(0, 1).sum(0))
        to_bias = grad.flatten(0, 1).sum(0) if ctx.biased else None
        return to_extended, torch.stack(to_taps, dim=-1), to_bias


def _shifts(extended: Tensor, weight: Tensor) -> list[Tensor]:
    """Views [B, T, D] of the inputs that each tap sees."""
    taps = weight.shape[-1]
    count = extended.shape[1] - taps + 1
    return [extended[:, taps - 1 - tap : taps - 1 - tap + count] for tap in range(taps)]
