"""The mLSTM's matrix memory by Triton kernels: forward and backward; see `search_spaces.ops.mlstm`.

Divided by exp(m_t), with the peak m_t = max(g_t + m_{t-1}, w_t), the recurrence is linear attention under one
decay per head and token, for which there is a kernel:

    S_t = exp(g_t + m_{t-1} - m_t) S_{t-1} + (exp(w_t - m_t) k_t) v_t'

and so is the normaliser, with ones for values. All exponents are at most zero, whatever the gates are. A
kernel here walks the gates: within a tile of tokens an associative scan joins the pairs (g, w) of two spans,
one after the other, to (g + g', max(w + g', w')). Outputs do not depend on peaks, so no gradient passes them.

Shapes: B batch, T tokens, H heads, N state_dim, P head_dim.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from search_spaces.ops import mlstm as plain
from search_spaces.ops.kernels.decay_attention import decay_attention
from search_spaces.ops.kernels.tiles import COUNTS, Dice, relative_errors, unwritten

TOLERANCE = 3e-2
TOKENS = 512
"""Tokens of a tile of gates."""


@triton.jit
def _join(g, w, g_next, w_next):
    return g + g_next, tl.maximum(w + g_next, w_next)


@triton.jit(do_not_specialize=(*COUNTS, "wb", "wt", "wh", "gb", "gt", "gh"))
def _gates(w, g, first, added, decay, peaks, count, heads, wb, wt, wh, gb, gt, gh, T: tl.constexpr):
    row = tl.program_id(0)
    batch, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    w += batch * wb + head * wh
    g += batch * gb + head * gh
    out = batch * count * heads + head
    peak = tl.load(first + row).to(tl.float32)
    i = tl.arange(0, T)
    for start in range(0, count, T):
        token = (start + i).to(tl.int64)
        inside, earlier = token < count, (i > 0) & (token - 1 < count)
        forget = tl.load(g + token * gt, mask=inside, other=0.0).to(tl.float32)
        enter = tl.load(w + token * wt, mask=inside, other=float("-inf")).to(tl.float32)
        forget_before = tl.load(g + (token - 1) * gt, mask=earlier, other=0.0).to(tl.float32)
        enter_before = tl.load(w + (token - 1) * wt, mask=earlier, other=float("-inf")).to(tl.float32)
        sums, tops = tl.associative_scan((forget_before, enter_before), 0, _join)
        before = tl.maximum(peak + sums, tops)
        now = tl.maximum(before + forget, enter)
        at = out + token * heads
        tl.store(added + at, tl.exp(enter - now), mask=inside)
        tl.store(decay + at, forget + (before - now), mask=inside)
        tl.store(peaks + at, now, mask=inside)
        peak = tl.max(tl.where(i == T - 1, now, float("-inf")), axis=0)


@torch.library.custom_op("nas::mlstm_gates", mutates_args=())
def gates(w: Tensor, g: Tensor, peak: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For w and g [B, T, H] and the peak [B, H] before: exp(w - m), the logarithm of what is kept, and m."""
    added, decay, peaks = _written(w, g, peak)
    batch, count, heads = w.shape
    _gates[(batch * heads,)](
        w, g, peak.contiguous(), added, decay, peaks, count, heads, *w.stride(), *g.stride(), T=TOKENS
    )
    return added, decay, peaks


@gates.register_fake
def _written(w: Tensor, g: Tensor, peak: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    added, decay, peaks = unwritten(w, w, w, dtype=torch.float32)
    return added, decay, peaks


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(output[0])


def _backward(ctx: Any, to_added: Tensor, to_decay: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    (added,) = ctx.saved_tensors
    return to_added * added, to_decay, None


gates.register_autograd(_backward, setup_context=_save)


def mlstm(
    q: Tensor, k: Tensor, v: Tensor, w: Tensor, g: Tensor, cell: plain.Cell
) -> tuple[Tensor, plain.Cell]:
    """Outputs [B, T, H, P] and the cell after the last token; see `search_spaces.ops.mlstm.mlstm`."""
    added, decay, peaks = gates(w, g, cell.peak)
    k = (k * added[..., None]).to(k.dtype)
    y, memory, _ = decay_attention(q, k, v, decay, cell.memory, True)
    ones = torch.ones_like(v[..., :1])
    n, normaliser, _ = decay_attention(q, k, ones, decay, cell.normaliser[..., None], True)
    y = (y / plain.divisor(n[..., 0], peaks)[..., None]).to(v.dtype)
    return y, plain.Cell(memory, normaliser[..., 0], peaks[:, -1])


def errors(
    device: torch.device, dtype: torch.dtype = torch.bfloat16, n_dim: int = 64, p_dim: int = 64
) -> dict[str, float]:
    """Relative errors in a dtype against the recurrence in float64, the cell handed over once on the way."""
    p_dim = 3 * p_dim // 4
    dice = Dice(device)

    # products of keys and queries that cancel are divided by what is left: no form is exact there in few
    # bits. So all are positive, and well above the floor of the divisor; in the last head they are far below
    entry = torch.tensor((2.0, 2.0, -9.0), device=device)
    inputs = {
        "q": dice.uniform(2, 83, 3, n_dim).to(dtype),
        "k": (dice.uniform(2, 83, 3, n_dim) / n_dim**0.5).to(dtype),
        "v": dice.normal(2, 83, 3, p_dim).to(dtype),
        "w": 2 * dice.normal(2, 83, 3) + entry,
        "g": dice.normal(2, 83, 3).sigmoid().log(),
        "memory": dice.normal(2, 3, n_dim, p_dim),
        "normaliser": dice.uniform(2, 3, n_dim),
    }
    return relative_errors(lambda *x: _in_two(mlstm, *x), lambda *x: _in_two(_plainly, *x), inputs)


def _plainly(*parts: Tensor, cell: plain.Cell) -> tuple[Tensor, plain.Cell]:
    return plain.mlstm_plainly(*parts, cell=cell)


def _in_two(form: Any, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Outputs for the first tokens, and for the others from the cell after them."""
    *parts, memory, normaliser = inputs
    cell = plain.Cell(memory, normaliser, torch.zeros_like(normaliser[..., 0]))
    early, cell = form(*(x[:, :67] for x in parts), cell=cell)
    late, _ = form(*(x[:, 67:] for x in parts), cell=cell)
    return early, late
