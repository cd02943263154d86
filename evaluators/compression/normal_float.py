"""NF4: four bits whose 16 values are equally likely for weights that are normally distributed.

    w = s q,   s the largest |w| of 64 weights, q one of 16 quantiles of a normal distribution, scaled to 1

Dettmers et al. 2023 (QLoRA), arXiv:2305.14314, section 3 and appendix E. With double quantization the scales
are themselves stored in 8 bits, 256 of them with one scale in 32: 4.127 bits a weight.

    stored = stored_normal_float(weight)        # codes, two a byte
    stored.values()                             # the same as round_to_normal_float(weight)
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

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


class StoredNormalFloat(NamedTuple):
    """A parameter in four bits: two codes a byte, scales in 8 bits, a step for 256, and their mean."""

    codes: Tensor
    scales: Tensor
    steps: Tensor
    mean: Tensor
    shape: torch.Size

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return sum(part.nbytes for part in (self.codes, self.scales, self.steps, self.mean))

    @torch.no_grad()
    def values(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The parameter."""
        scales = (_padded(self.scales.float(), SCALES) * self.steps[:, None]).flatten()
        scales = (scales[: self.scales.numel()] + self.mean).clamp_min(0)
        count, pairs = self.shape.numel(), _pairs().to(self.codes.device)
        values = pairs.index_select(0, self.codes.int()).flatten()[:count]
        whole = _padded(values, GROUP).mul_(scales[:, None]).flatten()
        return whole[:count].view(self.shape).to(dtype)


@torch.no_grad()
def stored_normal_float(weight: Tensor) -> StoredNormalFloat:
    """A parameter in groups of 64 in its order, with double quantization."""
    groups = _padded(weight.detach().reshape(-1).float(), GROUP)
    scale = groups.abs().amax(-1)
    mean = scale.mean()
    distances = _padded(scale - mean, SCALES)
    steps = distances.abs().amax(-1) / 127
    codes = (distances / torch.where(steps > 0, steps, 1.0)[:, None]).round()
    scales = codes.flatten()[: scale.numel()].to(torch.int8)
    rounded = ((codes * steps[:, None]).flatten()[: scale.numel()] + mean).clamp_min(0)
    values = normal_float_values().to(weight.device)
    shares = groups / torch.where(rounded > 0, rounded, 1.0)[:, None]
    nearest = torch.bucketize(shares, (values[1:] + values[:-1]) / 2).flatten()[: weight.numel()]
    high, low = _padded(nearest.to(torch.uint8), 2).unbind(-1)
    return StoredNormalFloat((high << 4) | low, scales, steps, mean, weight.shape)


def stored_bytes(count: int) -> int:
    """Bytes that so many weights of one parameter take, by the method's law."""
    groups = -(-count // GROUP)
    return -(-count // 2) + groups + 4 * -(-groups // SCALES) + 4


def round_to_normal_float(weight: Tensor) -> Tensor:
    """A parameter rounded to NF4, in the numbers that it has."""
    return stored_normal_float(weight).values(weight.dtype)


@lru_cache(maxsize=1)
def _pairs() -> Tensor:
    """The two values of each byte [256, 2]."""
    byte = torch.arange(256)
    return normal_float_values()[torch.stack((byte >> 4, byte & 15), dim=-1)]


def _padded(flat: Tensor, width: int) -> Tensor:
    """Values in rows of this width, the last one filled up with zeros."""
    return F.pad(flat, (0, -flat.numel() % width)).view(-1, width)
