"""Products with the inputs that 8 bits have no room for, as a Triton kernel; there is no gradient.

A program makes a tile of outputs from the blocks of inputs that have an outlier among its tokens, one after
the other, and writes nothing where no block has one. Its 16 tokens are as few as tensor cores take.

Shapes: M tokens, K inputs, N outputs, G groups of inputs; blocks of ROWS tokens and B inputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from search_spaces.ops.kernels.tiles import Dice

TOLERANCE = 1e-5
ROWS, COLUMNS = 16, 64
INPUTS = (32, 16)
"""How many inputs a block has: the first of these that cuts groups into whole blocks."""


@triton.jit(do_not_specialize=("count",))
def _add(y, x, outlier, blocks, codes, scale, count, n_dim, k_dim, groups, group,
         M: tl.constexpr, N: tl.constexpr, B: tl.constexpr):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * M + tl.arange(0, M)
    column = tl.program_id(1) * N + tl.arange(0, N)
    total = tl.zeros((M, N), dtype=tl.float32)
    found = 0
    whole = tl.cdiv(k_dim, B)
    for i in range(whole):
        here = tl.load(blocks + tl.program_id(0).to(tl.int64) * whole + i).to(tl.int32)
        if here != 0:
            k = i * B + tl.arange(0, B)
            at, inside = row[:, None] * k_dim + k[None, :], (row < count)[:, None] & (k < k_dim)[None, :]
            large = tl.load(outlier + at, mask=inside, other=0) != 0
            inputs = tl.load(x + at, mask=large & inside, other=0.0)
            beside = (column < n_dim)[None, :] & (k < k_dim)[:, None]
            where = column.to(tl.int64)[None, :] * k_dim + k[:, None]
            weights = tl.load(codes + where, mask=beside, other=0).to(inputs.dtype)
            unit = tl.load(scale + column * groups + i * B // group, mask=column < n_dim, other=0.0)
            total += tl.dot(inputs, weights, input_precision="ieee") * unit.to(tl.float32)[None, :]
        found += here
    if found != 0:
        at = row[:, None] * n_dim + column[None, :]
        inside = (row < count)[:, None] & (column < n_dim)[None, :]
        tl.store(y + at, tl.load(y + at, mask=inside, other=0.0) + total, mask=inside)


@torch.library.custom_op("nas::add_outliers", mutates_args=("y",))
def add_outliers(y: Tensor, x: Tensor, outlier: Tensor, codes: Tensor, scale: Tensor, group: int) -> None:
    """See `search_spaces.ops.outliers.add_outliers`; y is in one piece, in float32."""
    assert y.is_contiguous()
    assert y.dtype is torch.float32
    (count, k_dim), n_dim = x.shape, codes.shape[0]
    inputs = next(size for size in INPUTS if group % size == 0 or group == k_dim)
    padded = F.pad(outlier, (0, -k_dim % inputs, 0, -count % ROWS))
    blocks = padded.unflatten(1, (-1, inputs)).unflatten(0, (-1, ROWS)).any(3).any(1)
    _add[(triton.cdiv(count, ROWS), triton.cdiv(n_dim, COLUMNS))](
        y, x.contiguous(), outlier.contiguous(), blocks, codes.contiguous(), scale.contiguous(),
        count, n_dim, k_dim, scale.shape[-1], group, M=ROWS, N=COLUMNS, B=inputs, num_warps=4,
    )  # fmt: skip


@add_outliers.register_fake
def _nothing(y: Tensor, x: Tensor, outlier: Tensor, codes: Tensor, scale: Tensor, group: int) -> None:
    return None


def errors(device: torch.device) -> dict[str, float]:
    """Relative errors in float64, for sides that fill no block: few outliers, all, none; small groups, one.

    The interpreter of Triton multiplies no bfloat16, so on a CPU all is float32.
    """
    dice, found = Dice(device), dict[str, float]()
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    for name, limit in (("few", 2.5), ("all", 0.0), ("none", 100.0)):
        for group in (16, 32, 90):
            x, y = dice.normal(37, 90).to(dtype), dice.normal(37, 70)
            codes = (40 * dice.normal(70, 90)).clamp(-127, 127).to(torch.int8)
            scale = dice.uniform(70, -(-90 // group))
            values = codes.double() * scale.double().repeat_interleave(group, 1)[:, :90]
            exact = y.double() + torch.where(x.abs() > limit, x.double(), 0.0) @ values.T
            add_outliers(y, x, x.abs() > limit, codes, scale, group)
            error = (y.double() - exact).abs().max() / exact.abs().max()
            found[f"{name} in groups of {group}"] = float(error)
    return found
