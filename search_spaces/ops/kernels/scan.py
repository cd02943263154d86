"""The diagonal scan as a Triton kernel: see `search_spaces.ops.scan` for the recurrence and its gradient.

A program owns some channels of one sequence and walks the tokens tile by tile; within a tile an associative
scan joins the tokens. Every input is read once and every output written once.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from search_spaces.ops.kernels.tiles import COUNTS, Dice, compose, relative_errors, unwritten
from search_spaces.ops.scan import scan_plainly

TOLERANCE = 1e-5
TOKENS = 64
"""Tokens of a tile."""


@triton.jit(do_not_specialize=COUNTS)
def _forward(a, b, start, h, count, width, T: tl.constexpr, D: tl.constexpr):
    batch, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * D + tl.arange(0, D)
    fits = column < width
    state = tl.load(start + batch * width + column, mask=fits, other=0.0).to(tl.float32)
    row = tl.arange(0, T)
    base = batch * count * width
    for first in range(0, count, T):
        token = first + row
        at = base + token[:, None].to(tl.int64) * width + column[None, :]
        inside = (token < count)[:, None] & fits[None, :]
        fade = tl.load(a + at, mask=inside, other=1.0).to(tl.float32)
        added = tl.load(b + at, mask=inside, other=0.0).to(tl.float32)
        fades, sums = tl.associative_scan((fade, added), 0, compose)
        states = fades * state[None, :] + sums
        tl.store(h + at, states.to(h.dtype.element_ty), mask=inside)
        state = tl.sum(tl.where(row[:, None] == T - 1, states, 0.0), axis=0)


@triton.jit(do_not_specialize=COUNTS)
def _backward(a, h, start, grad, to_a, to_b, to_start, count, width, T: tl.constexpr, D: tl.constexpr):
    batch, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * D + tl.arange(0, D)
    fits = column < width
    begin = tl.load(start + batch * width + column, mask=fits, other=0.0).to(tl.float32)
    slope = tl.zeros((D,), dtype=tl.float32)
    row = tl.arange(0, T)
    base = batch * count * width
    for number in range(tl.cdiv(count, T)):
        # the last tile first; its rows run backwards in time
        token = count - 1 - number * T - row
        at = base + token[:, None].to(tl.int64) * width + column[None, :]
        inside = (token >= 0)[:, None] & fits[None, :]
        later = inside & (token < count - 1)[:, None]
        fade = tl.load(a + at + width, mask=later, other=0.0).to(tl.float32)
        fade = tl.where((token >= 0)[:, None], fade, 1.0)
        added = tl.load(grad + at, mask=inside, other=0.0).to(tl.float32)
        fades, sums = tl.associative_scan((fade, added), 0, compose)
        slopes = fades * slope[None, :] + sums
        before = tl.load(h + at - width, mask=inside & (token > 0)[:, None], other=0.0).to(tl.float32)
        before = tl.where((token == 0)[:, None], begin[None, :], before)
        tl.store(to_b + at, slopes.to(to_b.dtype.element_ty), mask=inside)
        tl.store(to_a + at, (slopes * before).to(to_a.dtype.element_ty), mask=inside)
        slope = tl.sum(tl.where(row[:, None] == T - 1, slopes, 0.0), axis=0)
    first = tl.load(a + base + column, mask=fits, other=0.0).to(tl.float32)
    tl.store(to_start + batch * width + column, (first * slope).to(to_start.dtype.element_ty), mask=fits)


def _grid(batch: int, width: int) -> tuple[tuple[int, int], dict[str, int]]:
    """Programs and their tiles: narrow ones where wide ones would leave the device idle."""
    columns = 32 if batch * width >= 8192 else 16
    return (batch, triton.cdiv(width, columns)), {"T": TOKENS, "D": columns, "num_warps": 4}


@torch.library.custom_op("nas::scan", mutates_args=())
def scan(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """All h [B, T, D] of a and b [B, T, D] and start [B, D]."""
    a, b, start = a.contiguous(), b.contiguous(), start.contiguous()
    batch, count, width = b.shape
    h = _written(a, b, start)
    grid, tiles = _grid(batch, width)
    _forward[grid](a, b, start, h, count, width, **tiles)
    return h


@scan.register_fake
def _written(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    return b.new_empty(b.shape)


@torch.library.custom_op("nas::scan_back", mutates_args=())
def scan_back(a: Tensor, h: Tensor, start: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a, b and start from that of h."""
    a, h, start, grad = a.contiguous(), h.contiguous(), start.contiguous(), grad.contiguous()
    batch, count, width = h.shape
    to_a, to_b, to_start = _written_back(a, h, start, grad)
    grid, tiles = _grid(batch, width)
    _backward[grid](a, h, start, grad, to_a, to_b, to_start, count, width, **tiles)
    return to_a, to_b, to_start


@scan_back.register_fake
def _written_back(a: Tensor, h: Tensor, start: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    to_a, to_b, to_start = unwritten(a, h, start)
    return to_a, to_b, to_start


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    a, _, start = inputs
    ctx.save_for_backward(a, output, start)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    a, h, start = ctx.saved_tensors
    found: tuple[Tensor, Tensor, Tensor] = scan_back(a, h, start, grad)
    return found


scan.register_autograd(_gradients, setup_context=_save)


def errors(device: torch.device) -> dict[str, float]:
    """Relative errors against the recurrence, token by token."""
    dice = Dice(device)
    a, b, start = 0.7 + 0.3 * dice.uniform(2, 67, 40), dice.normal(2, 67, 40), dice.normal(2, 40)
    return relative_errors(
        lambda *x: [scan(*x)], lambda *x: [scan_plainly(*x)], {"a": a, "b": b, "start": start}
    )
