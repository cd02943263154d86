"""Weights rounded to the values of their format, for training and search.

`round_to_bits` gives what `packing.unpack` gives of a packed matrix, bit for bit; gradients pass straight
through (Bengio et al. 2013, arXiv:1308.3432). See `search_spaces.quantization.bits` for the formats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.ops.precision import own_types
from search_spaces.quantization.bits import FLOAT8, FLOAT8_LARGEST, TERNARY, WeightFormat

TIGHTER = (1.0, 1.15, 1.3, 1.5, 1.7, 1.95, 2.25)
"""How far below the largest value the range of 3 and 2 bits may end, as the ratio of both."""


def round_to_bits(weight: Tensor, stored: WeightFormat) -> Tensor:
    """A matrix rounded as `unpack(pack(...))` would; the gradient passes straight through."""
    rounded: Tensor = _RoundToBits.apply(weight, stored)
    return rounded


@own_types
class _RoundToBits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, stored: WeightFormat) -> Tensor:
        if stored.bits == 16:
            return weight.to(torch.bfloat16).to(weight.dtype)
        codes, scale = codes_and_scales(weight, stored)
        return (codes * scale.to(weight.dtype)).flatten(-2)[..., : weight.shape[-1]].contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def round_all(weights: Mapping[str, Tensor], formats: Mapping[str, WeightFormat | None]) -> dict[str, Tensor]:
    """Every matrix as `round_to_bits` rounds it, bit for bit, those of one format together; None: kept.

    The time for a small matrix goes into starting operations, not into its values: together, matrices take
    a copy each and a dozen operations for all. Those of 3 bits and less, whose groups are summed, and float8
    are rounded one by one.
    """
    rounded = dict(weights)
    groups: dict[tuple[WeightFormat, int, torch.dtype], list[str]] = {}
    for name, weight in weights.items():
        stored = formats[name]
        if stored is None:
            continue
        if stored.bits < 4 or stored.bits == 16 or stored.is_float8:
            rounded[name] = round_to_bits(weight, stored)
        else:
            # groups that differ by less than a factor of two, so that zeros are fewer than values
            octave = (stored.span(weight.shape[-1]) - 1).bit_length()
            groups.setdefault((stored, octave, weight.dtype), []).append(name)
    for (stored, *_), names in groups.items():
        results = _RoundTogether.apply(stored, *(weights[name] for name in names))
        rounded |= dict(zip(names, results, strict=True))
    return rounded


@own_types
class _RoundTogether(torch.autograd.Function):
    """`_RoundToBits` for several matrices of one format, at least 4 bits wide.

    Their groups are the rows of one matrix, padded with zeros where they are not full: the largest value of a
    group, and so its scale and its codes, are the same as when it is rounded alone.
    """

    @staticmethod
    def forward(ctx: Any, stored: WeightFormat, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        group = max(stored.span(weight.shape[-1]) for weight in weights)
        padded = [(*weight.shape[:-1], -(-weight.shape[-1] // group) * group) for weight in weights]
        sizes = [torch.Size(shape).numel() for shape in padded]
        rows = weights[0].new_zeros(sum(sizes) // group, group)
        for weight, shape, part in zip(weights, padded, rows.flatten().split(sizes), strict=True):
            part.view(shape)[..., : weight.shape[-1]].copy_(weight)
        codes, scale = codes_and_scales(rows, stored)
        parts = (codes * scale.to(rows.dtype)).flatten().split(sizes)
        # each in memory of its own: what is compiled for any place in a piece is not for its beginning
        rounded = [torch.empty(weight.shape, dtype=rows.dtype, device=rows.device) for weight in weights]
        found = zip(weights, padded, parts, strict=True)
        torch._foreach_copy_(rounded, [part.view(shape)[..., : w.shape[-1]] for w, shape, part in found])
        return tuple(rounded)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return None, *grads


def in_groups(weight: Tensor, group: int) -> Tensor:
    """[..., L] as [..., groups, group], padded with zeros."""
    width = weight.shape[-1]
    if width % group:
        weight = F.pad(weight, (0, group - width % group))
    return weight.unflatten(-1, (-1, group))


def codes_and_scales(weight: Tensor, stored: WeightFormat) -> tuple[Tensor, Tensor]:
    """Codes (as floats) [..., groups, group] and bfloat16 scales [..., groups, 1].

    Rounding is idempotent: the three kinds of scales say why.
    """
    bits = stored.bits
    # contiguous, so that a slice and its copy sum in the same order and get the same scales
    grouped = in_groups(weight.detach().contiguous(), stored.span(weight.shape[-1]))
    if stored.is_float8:
        return _float8(grouped)
    if bits == TERNARY:
        return nearest_codes(grouped, _mean_scale(grouped, weight.shape[-1]), -1, 1)
    top = 2 ** (int(bits) - 1)
    if bits < 4:
        return nearest_codes(grouped, _best_scale(grouped, top), -top, top - 1)
    return nearest_codes(grouped, largest_scale(grouped, top - 1), 1 - top, top - 1)


def _float8(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Values of float8, in the dtype of the rows [..., L], and bfloat16 scales [..., 1].

    The largest value gets the largest code, since a bfloat16 scale is off by less than half a step there: so
    rounding again gives the same scale and changes nothing.
    """
    scale = usable_scale(rows.abs().amax(-1, keepdim=True) / FLOAT8_LARGEST)
    return (rows / scale.to(rows.dtype)).to(FLOAT8).to(rows.dtype), scale


def nearest_codes(rows: Tensor, scale: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    """The codes from `low` to `high` whose values are nearest, as floats, and the scale itself."""
    return (rows / scale.to(rows.dtype)).round().clamp(low, high), scale


def largest_scale(rows: Tensor, top: int) -> Tensor:
    """One bfloat16 scale per row.

    The largest value always gets the top code (a bfloat16 scale is off by at most a quarter of a step there),
    so rounding again gives the same scale and changes nothing.
    """
    largest = rows.detach().abs().amax(-1, keepdim=True)
    return usable_scale(largest / top)


def _best_scale(rows: Tensor, top: int) -> Tensor:
    """The scale of the least squared error among one that reaches the largest value and some that do not.

    All give the largest value the code -top, so that rounded values have their largest value there; the first
    scale tried for them is the one they were rounded with, and leaves no error.
    """
    high, low = rows.amax(-1, keepdim=True), rows.amin(-1, keepdim=True)
    largest = torch.where(high >= -low, high, low)
    best, least_error = None, None
    for tighter in TIGHTER:
        scale = usable_scale(-largest / (top * tighter))
        codes, _ = nearest_codes(rows, scale, -top, top - 1)
        error = (codes * scale.to(rows.dtype) - rows).square().sum(-1, keepdim=True)
        if best is None or least_error is None:
            best, least_error = scale, error
        else:
            best = torch.where(error < least_error, scale, best)
            least_error = torch.minimum(error, least_error)
    assert best is not None
    return best


def _mean_scale(rows: Tensor, width: int) -> Tensor:
    """The mean of |w| over [..., groups, group], of which `width` values are real, not padding.

    A group that is ternary already keeps its scale, since its mean would be another one.
    """
    group, size = rows.shape[-2:]
    real = (width - size * torch.arange(group, device=rows.device)).clamp(max=size)[:, None]
    magnitude = rows.abs()
    largest = magnitude.amax(-1, keepdim=True)
    ternary = ((magnitude == 0) | (magnitude == largest)).all(-1, keepdim=True)
    return usable_scale(torch.where(ternary, largest, magnitude.sum(-1, keepdim=True) / real))


def usable_scale(scale: Tensor) -> Tensor:
    """In bfloat16, and one instead of zero, which cannot divide."""
    exact = scale.to(torch.bfloat16).float()  # chosen in float32: ONNX Runtime only converts bfloat16
    return exact.masked_fill(exact == 0, 1.0).to(torch.bfloat16)
