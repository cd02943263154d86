"""Matrices as an exported model stores them: codes packed into bytes, and the scales of their groups."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.quantization.bits import FLOAT8, TERNARY, TRITS, WeightFormat, row_bytes
from search_spaces.quantization.rounding import codes_and_scales, in_groups

SCALE_SUFFIX = ".scale"
"""What follows the name of a parameter in the name of its scales."""


def pack(weight: Tensor, stored: WeightFormat) -> dict[str, Tensor]:
    """What is stored of a matrix: `""` holds bfloat16 values or packed codes, `.scale` the scales."""
    if stored.bits == 16:
        return {"": weight.to(torch.bfloat16)}
    codes, scale = codes_and_scales(weight, stored)
    codes = codes.flatten(-2)[..., : weight.shape[-1]].to(FLOAT8 if stored.is_float8 else torch.int8)
    return {"": codes_to_bytes(codes, stored.bits), SCALE_SUFFIX: scale.squeeze(-1)}


def packed_shapes(
    shape: tuple[int, ...], stored: WeightFormat
) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """The dtype and shape of everything that `pack` makes of a matrix of this shape; nothing is computed."""
    if stored.bits == 16:
        return {"": (torch.bfloat16, shape)}
    rows, width = shape[:-1], shape[-1]
    codes = FLOAT8 if stored.is_float8 else torch.int8
    return {
        "": (codes, (*rows, row_bytes(width, stored.bits))),
        SCALE_SUFFIX: (torch.bfloat16, (*rows, -(-width // stored.span(width)))),
    }


def unpack(packed: Mapping[str, Tensor], stored: WeightFormat, width: int, dtype: torch.dtype) -> Tensor:
    """The matrix, of last axis `width`, that `pack` stored."""
    if stored.bits == 16:
        return packed[""].to(dtype)
    codes = in_groups(unpack_codes(packed, stored, width).to(dtype), stored.span(width))
    scale = packed[SCALE_SUFFIX].unsqueeze(-1).to(dtype)
    return (codes * scale).flatten(-2)[..., :width].contiguous()


def unpack_codes(packed: Mapping[str, Tensor], stored: WeightFormat, width: int) -> Tensor:
    """The codes [..., width] of what `pack` stored: integers, one int8 each, or float8."""
    return codes_from_bytes(packed[""], stored.bits, width)


def codes_to_bytes(codes: Tensor, bits: float) -> Tensor:
    """int8 codes [..., L] packed into bytes, the first code in the lowest bits."""
    if bits == 8:
        return codes
    if bits == 4:
        return _two_per_byte(codes)
    width, bytes_ = codes.shape[-1], row_bytes(codes.shape[-1], bits)
    if bits == TERNARY:
        digits = F.pad(codes.long() + 1, (0, -width % TRITS)).unflatten(-1, (-1, TRITS))
        return _bytes((digits * _powers(3, TRITS, codes)).sum(-1))
    mask, bits = 2 ** int(bits) - 1, int(bits)
    eight = F.pad(codes.long() & mask, (0, -width % 8)).unflatten(-1, (-1, 8))
    words = (eight << _shifts(bits, 8, codes)).sum(-1, keepdim=True)
    return _bytes(((words >> _shifts(8, bits, codes)) & 0xFF).flatten(-2)[..., :bytes_])


def codes_from_bytes(packed: Tensor, bits: float, width: int) -> Tensor:
    """The int8 codes [..., width] that `codes_to_bytes` packed."""
    if bits == 8:
        return packed
    if bits == 4:
        return _one_per_byte(packed)[..., :width]
    bytes_ = packed.view(torch.uint8).long()
    if bits == TERNARY:
        digits = bytes_.unsqueeze(-1) // _powers(3, TRITS, packed) % 3
        return (digits - 1).flatten(-2)[..., :width].to(torch.int8)
    bits = int(bits)
    grouped = F.pad(bytes_, (0, -packed.shape[-1] % bits)).unflatten(-1, (-1, bits))
    words = (grouped << _shifts(8, bits, packed)).sum(-1, keepdim=True)
    sign = 2 ** (bits - 1)
    codes = ((words >> _shifts(bits, 8, packed)) & (2 * sign - 1) ^ sign) - sign
    return codes.flatten(-2)[..., :width].to(torch.int8)


def _bytes(values: Tensor) -> Tensor:
    return values.to(torch.uint8).view(torch.int8)


def _shifts(bits: int, count: int, like: Tensor) -> Tensor:
    return bits * torch.arange(count, device=like.device)


def _powers(base: int, count: int, like: Tensor) -> Tensor:
    return torch.tensor([base**i for i in range(count)], device=like.device)


def _two_per_byte(codes: Tensor) -> Tensor:
    if codes.shape[-1] % 2:
        codes = F.pad(codes, (0, 1))
    low, high = codes[..., 0::2], codes[..., 1::2]
    return ((low & 0xF) | (high << 4)).to(torch.int8)


def _one_per_byte(packed: Tensor) -> Tensor:
    low = (packed << 4) >> 4  # arithmetic shifts keep the sign of the low four bits
    return torch.stack([low, packed >> 4], dim=-1).flatten(-2)
