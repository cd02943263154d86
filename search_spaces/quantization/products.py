"""Products with packed weights by the kernels that PyTorch brings, one function per kernel.

    weights  activations  kernel
    16       any          bfloat16 product
    8        16           torch._weight_int8pack_mm, one group of columns after the other
    8        8            torch._int_mm, likewise; outliers by `search_spaces.ops.outliers`, or as 8 beside 16
    float8   float8       torch._scaled_mm (on CUDA from compute capability 8.9 on)
    4        any          torch._weight_int4pack_mm_for_cpu, or torch._weight_int4pack_mm on CUDA

All but that of float8 take bfloat16 inputs (or 8-bit ones) and give bfloat16 outputs, so results differ from
the emulated ones by the rounding of bfloat16, about 2^-8 of the largest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.ops.outliers import add_outliers, adds_outliers
from search_spaces.quantization.activations import activation_codes, float8_activations
from search_spaces.quantization.bits import FLOAT8

INT4_GROUPS = (32, 64, 128, 256)
INT4_ROWS = 16
INT8_COLUMNS = 32
"""The CPU kernel reads whole vectors of so many columns: other widths are padded, or it reads beyond them."""

INT_MM_ROWS, INT_MM_MULTIPLE = 32, 8
"""Requirements of torch._int_mm on CUDA: more than 16 rows, and sides that are multiples of 8."""

FLOAT8_MULTIPLE = 16
"""All sides must be multiples of this for torch._scaled_mm on CUDA."""

Product: TypeAlias = Callable[[Tensor], Tensor]
"""From x [M, K] to y [M, N]."""


@dataclass(frozen=True)
class IntegerMatrix:
    """A matrix [N, K] of integers with scales [N, K / group]; the last group may be shorter."""

    codes: Tensor
    scale: Tensor
    group: int

    @property
    def groups(self) -> int:
        """Scales of a row."""
        return self.scale.shape[-1]

    def values(self, dtype: torch.dtype) -> Tensor:
        """The matrix in floating point."""
        scale = self.scale.repeat_interleave(self.group, -1)[:, : self.codes.shape[-1]]
        return self.codes.to(dtype) * scale.to(dtype)


def bfloat16_product(weight: Tensor) -> Product:
    """Weights and inputs in bfloat16."""
    weight = weight.to(torch.bfloat16)
    return lambda x: F.linear(x.to(torch.bfloat16), weight)


def int8_product(matrix: IntegerMatrix) -> Product:
    """Weights of 8 bits, inputs in bfloat16; sums over groups in float32."""
    parts = [_padded(part, 1, INT8_COLUMNS) for part in matrix.codes.split(matrix.group, -1)]
    scales = [scale.contiguous() for scale in matrix.scale.to(torch.bfloat16).unbind(-1)]

    def product(x: Tensor) -> Tensor:
        pieces = [_padded(part, 1, INT8_COLUMNS) for part in x.to(torch.bfloat16).split(matrix.group, -1)]
        if len(parts) == 1:
            return torch._weight_int8pack_mm(pieces[0], parts[0], scales[0])
        y = x.new_zeros(x.shape[0], matrix.codes.shape[0], dtype=torch.float32)
        for piece, part, scale in zip(pieces, parts, scales, strict=True):
            y += torch._weight_int8pack_mm(piece, part, scale)
        return y

    return product


def int8_activation_product(matrix: IntegerMatrix) -> Product:
    """Weights and inputs of 8 bits; outliers among the inputs are multiplied by `int8_product`."""
    multiple = INT_MM_MULTIPLE if matrix.codes.is_cuda else 1
    parts = [_padded(part, multiple, multiple) for part in matrix.codes.split(matrix.group, -1)]
    scales = [scale.float().contiguous() for scale in matrix.scale.unbind(-1)]
    outlier_product = int8_product(matrix)

    def product(x: Tensor) -> Tensor:
        codes, scale, outlier = activation_codes(x)
        y = codes.new_zeros(x.shape[0], matrix.codes.shape[0])
        min_rows = INT_MM_ROWS if x.is_cuda else 1
        for piece, part, part_scale in zip(
            codes.to(torch.int8).split(matrix.group, -1), parts, scales, strict=True
        ):
            whole = torch._int_mm(_padded(piece, min_rows, multiple), part.T)
            y += whole[: y.shape[0], : y.shape[1]] * part_scale
        y *= scale
        if adds_outliers(x, matrix.group):
            add_outliers(y, x, outlier, matrix.codes, matrix.scale, group=matrix.group)
        elif _recording(x) or outlier.any():  # a graph that is recorded cannot ask
            y += outlier_product(torch.where(outlier, x, 0.0))
        return y

    return product


def int4_product(matrix: IntegerMatrix) -> Product | None:
    """Weights of 4 bits, inputs in bfloat16; None where the kernels do not support the groups."""
    group = matrix.group
    if matrix.groups == 1:  # a row shorter than a group is one group that is not full
        group = next((size for size in INT4_GROUPS if size >= matrix.codes.shape[-1]), 0)
    if group not in INT4_GROUPS:
        return None
    count = matrix.codes.shape[0]
    codes = _padded(matrix.codes, INT4_ROWS, group) + 8
    scale = _padded(matrix.scale.to(torch.bfloat16), INT4_ROWS, 1).T
    scale = torch.stack((scale, torch.zeros_like(scale)), dim=-1).contiguous()
    if matrix.codes.is_cuda:
        pairs = (codes[:, 0::2] << 4 | codes[:, 1::2]).to(torch.uint8)
        packed = torch._convert_weight_to_int4pack(pairs, 2)
        kernel = torch._weight_int4pack_mm
    else:
        packed = torch._convert_weight_to_int4pack_for_cpu(codes.to(torch.int32), 1)
        kernel = torch._weight_int4pack_mm_for_cpu
    return lambda x: kernel(_padded(x.to(torch.bfloat16), 1, group), packed, group, scale)[:, :count]


def float8_product(codes: Tensor, scale: Tensor) -> Product:
    """Weights [N, K] and inputs in float8, a scale for each of their rows; outputs in float32.

    Sums have the precision of the device: Hopper accumulates in fewer bits than float32 has.
    """
    multiple = FLOAT8_MULTIPLE if codes.is_cuda else 1
    count, part = codes.shape[0], _padded_float8(codes, multiple)
    scale, unit = scale.float().T.contiguous(), scale.new_ones((), dtype=torch.float32)

    def product(x: Tensor) -> Tensor:
        x_codes, x_scale = float8_activations(x)
        whole = torch._scaled_mm(
            _padded_float8(x_codes, multiple), part.T, unit, unit, out_dtype=torch.float32
        )
        return whole[: x.shape[0], :count] * x_scale * scale

    return product


def _recording(x: Tensor) -> bool:
    """Whether what is computed now is recorded as a CUDA graph."""
    return x.is_cuda and torch.cuda.is_current_stream_capturing()


def _padded_float8(codes: Tensor, multiple: int) -> Tensor:
    """float8 padded with zeros; as int8, which padding supports, and zero is the same byte."""
    return _padded(codes.view(torch.int8), multiple, multiple).view(FLOAT8)


def _padded(matrix: Tensor, rows: int, columns: int) -> Tensor:
    """Padded with zeros to multiples of `rows` and `columns`."""
    below, right = -matrix.shape[0] % rows, -matrix.shape[1] % columns
    return F.pad(matrix, (0, right, 0, below)).contiguous() if below or right else matrix.contiguous()
