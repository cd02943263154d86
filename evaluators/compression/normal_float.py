"""NF4: four bits whose 16 values are equally likely for weights that are normally distributed.

    w = s q,   s the largest |w| of 64 weights, q one of 16 quantiles of a normal distribution, scaled to 1

Dettmers et al. 2023 (QLoRA), arXiv:2305.14314, section 3 and appendix E. With double quantization the scales
are themselves stored in 8 bits, 256 of them with one scale in 32: 4.127 bits a weight.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

GROUP, SCALES = 64, 256
"""Weights of a scale, and scales of a scale of theirs."""

OUTERMOST = 0.9677083
"""The quantile of the largest value: the mean of 1 - 1/30 and 1 - 1/32 (appendix E)."""

BITS = 4 + 8 / GROUP + 32 / (GROUP * SCALES)
"""Bits of a weight, scales and their scales included."""


@lru_cache(maxsize=1)
def normal_float_values() -> Tensor:
    """The 16 values, in their order, from -1 to 1."""
    half = torch.tensor(0.5, dtype=torch.float64)
    above = torch.linspace(OUTERMOST, 0.5, 9, dtype=torch.float64)[:-1]
    below = torch.linspace(OUTERMOST, 0.5, 8, dtype=torch.float64)[:-1]
    quantiles = torch.cat([torch.special.ndtri(above), -torch.special.ndtri(below), half[None] * 0])
    return (quantiles / quantiles.abs().max()).sort().values.float()


@torch.no_grad()
def round_to_normal_float(weight: Tensor) -> Tensor:
    """A parameter, in groups of 64 in its order, rounded to NF4 with double quantization."""
    flat = weight.detach().reshape(-1).float()
    groups = F.pad(flat, (0, -flat.numel() % GROUP)).view(-1, GROUP)
    scale = _twice_rounded(groups.abs().amax(-1))
    values = normal_float_values().to(weight.device)
    shares = groups / torch.where(scale > 0, scale, 1.0)[:, None]
    nearest = torch.bucketize(shares, (values[1:] + values[:-1]) / 2)
    rounded = values[nearest] * scale[:, None]
    return rounded.view(-1)[: flat.numel()].view(weight.shape).to(weight.dtype)


def _twice_rounded(scale: Tensor) -> Tensor:
    """Scales as 8 bits hold them: their distance from the mean, to 127 steps of the largest in 256."""
    mean = scale.mean()
    groups = F.pad(scale - mean, (0, -scale.numel() % SCALES)).view(-1, SCALES)
    step = groups.abs().amax(-1, keepdim=True) / 127
    codes = (groups / torch.where(step > 0, step, 1.0)).round()
    return ((codes * step).view(-1)[: scale.numel()] + mean).clamp_min(0)
