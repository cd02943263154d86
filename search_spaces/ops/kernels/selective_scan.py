"""Mamba's selective scan as Triton kernels: see `search_spaces.ops.selective_scan` for the recurrence.

A program owns the states of some channels and walks the tokens tile by tile; within a tile an associative
scan joins the tokens. Only outputs and the state before each tile are written. The gradient walks the tiles
from the last one and forms the states of a tile again from the one before it.

Shapes: B batch, T tokens, D channels, N state_dim.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from search_spaces.ops.kernels.tiles import COUNTS, Dice, compose, relative_errors, unwritten
from search_spaces.ops.selective_scan import selective_scan_plainly

TOLERANCE = 1e-4
TOKENS = 16
"""Tokens of a tile."""

VALUES = 256
"""Channels times states of a tile."""


@triton.jit(do_not_specialize=COUNTS)
def _forward(u, dt, a, b, c, start, y, last, starts, count, width, n_dim,
             T: tl.constexpr, D: tl.constexpr, N: tl.constexpr, KEEP: tl.constexpr):  # fmt: skip
    batch = tl.program_id(0).to(tl.int64)
    row, d, n = tl.arange(0, T), tl.program_id(1) * D + tl.arange(0, D), tl.arange(0, N)
    grid = d[:, None] * n_dim + n[None, :]
    there = (d < width)[:, None] & (n < n_dim)[None, :]
    rate = tl.load(a + grid, mask=there, other=0.0)
    state = tl.load(start + batch * width * n_dim + grid, mask=there, other=0.0)
    tiles = tl.cdiv(count, T)
    for tile in range(tiles):
        token = tile * T + row
        inside = (token < count)[:, None] & (d < width)[None, :]
        at = (batch * count + token[:, None]) * width + d[None, :]
        step = tl.load(dt + at, mask=inside, other=0.0)
        more = tl.load(u + at, mask=inside, other=0.0) * step
        place = (batch * count + token[:, None]) * n_dim + n[None, :]
        known = (token < count)[:, None] & (n < n_dim)[None, :]
        b_tn = tl.load(b + place, mask=known, other=0.0)
        c_tn = tl.load(c + place, mask=known, other=0.0)
        if KEEP:
            tl.store(starts + (batch * tiles + tile) * width * n_dim + grid, state, mask=there)
        fade = tl.exp(step[:, :, None] * rate[None, :, :])
        added = more[:, :, None] * b_tn[:, None, :]
        fades, sums = tl.associative_scan((fade, added), 0, compose)
        states = fades * state[None, :, :] + sums
        out = tl.sum(states * c_tn[:, None, :], axis=2)
        tl.store(y + at, out, mask=inside)
        state = tl.sum(tl.where((row == T - 1)[:, None, None], states, 0.0), axis=0)
    tl.store(last + batch * width * n_dim + grid, state, mask=there)


@triton.jit(do_not_specialize=COUNTS)
def _backward(u, dt, a, b, c, starts, dy, dlast, du, ddt, da, db, dc, dstart, count, width, n_dim,
              T: tl.constexpr, D: tl.constexpr, N: tl.constexpr):  # fmt: skip
    batch, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    row, d, n = tl.arange(0, T), block * D + tl.arange(0, D), tl.arange(0, N)
    grid = d[:, None] * n_dim + n[None, :]
    there = (d < width)[:, None] & (n < n_dim)[None, :]
    rate = tl.load(a + grid, mask=there, other=0.0)
    slope = tl.load(dlast + batch * width * n_dim + grid, mask=there, other=0.0)
    to_rate = tl.zeros((D, N), dtype=tl.float32)
    tiles = tl.cdiv(count, T)
    blocks = tl.num_programs(1)
    for number in range(tiles):
        tile = tiles - 1 - number
        token = tile * T + row
        wide = (d < width)[None, :]
        inside = (token < count)[:, None] & wide
        at = (batch * count + token[:, None]) * width + d[None, :]
        step = tl.load(dt + at, mask=inside, other=0.0)
        value = tl.load(u + at, mask=inside, other=0.0)
        grad = tl.load(dy + at, mask=inside, other=0.0)
        later = tl.load(dt + at + width, mask=(token + 1 < count)[:, None] & wide, other=0.0)
        place = (batch * count + token[:, None]) * n_dim + n[None, :]
        known = (token < count)[:, None] & (n < n_dim)[None, :]
        b_tn = tl.load(b + place, mask=known, other=0.0)
        c_tn = tl.load(c + place, mask=known, other=0.0)
        # the states before every token, by the steps of the tokens before them
        began = (row > 0)[:, None] & (token - 1 < count)[:, None]
        step_before = tl.load(dt + at - width, mask=began & wide, other=0.0)
        more_before = tl.load(u + at - width, mask=began & wide, other=0.0) * step_before
        b_before = tl.load(b + place - n_dim, mask=began & (n < n_dim)[None, :], other=0.0)
        start = tl.load(starts + (batch * tiles + tile) * width * n_dim + grid, mask=there, other=0.0)
        fade = tl.exp(step_before[:, :, None] * rate[None, :, :])
        written = more_before[:, :, None] * b_before[:, None, :]
        fades, sums = tl.associative_scan((fade, written), 0, compose)
        before = fades * start[None, :, :] + sums
        fade = tl.exp(step[:, :, None] * rate[None, :, :])
        states = fade * before + (value * step)[:, :, None] * b_tn[:, None, :]
        to_c = tl.sum(grad[:, :, None] * states, axis=1)
        # slopes of the states, from the last token
        through = tl.exp(later[:, :, None] * rate[None, :, :])
        read = grad[:, :, None] * c_tn[:, None, :]
        fades, sums = tl.associative_scan((through, read), 0, compose, reverse=True)
        slopes = fades * slope[None, :, :] + sums
        slope = tl.sum(tl.where((row == 0)[:, None, None], slopes, 0.0), axis=0)
        slopes = tl.where((token < count)[:, None, None], slopes, 0.0)
        to_input = tl.sum(slopes * b_tn[:, None, :], axis=2)
        to_power = slopes * before * fade
        to_rate += tl.sum(to_power * step[:, :, None], axis=0)
        to_step = tl.sum(to_power * rate[None, :, :], axis=2) + to_input * value
        tl.store(du + at, to_input * step, mask=inside)
        tl.store(ddt + at, to_step, mask=inside)
        to_b = tl.sum(slopes * (step * value)[:, :, None], axis=1)
        part = ((batch * blocks + block) * count + token[:, None]) * n_dim + n[None, :]
        tl.store(db + part, to_b, mask=known)
        tl.store(dc + part, to_c, mask=known)
    first = tl.load(dt + batch * count * width + d, mask=d < width, other=0.0)
    tl.store(dstart + batch * width * n_dim + grid, slope * tl.exp(first[:, None] * rate), mask=there)
    tl.store(da + batch * width * n_dim + grid, to_rate, mask=there)


def _channels(n_dim: int) -> int:
    return max(1, VALUES // triton.next_power_of_2(n_dim))


def _tiles(n_dim: int) -> dict[str, int]:
    return {"T": TOKENS, "D": _channels(n_dim), "N": triton.next_power_of_2(n_dim), "num_warps": 4}


@torch.library.custom_op("nas::selective_scan", mutates_args=())
def selective_scan(
    u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, start: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs [B, T, D], the last state [B, D, N], and, to `keep` for the gradient, states before tiles."""
    u, dt, a, b, c, start = (part.contiguous() for part in (u, dt, a, b, c, start))
    batch, count, width = u.shape
    n_dim = a.shape[1]
    y, last, starts = _written(u, dt, a, b, c, start, keep)
    grid = (batch, triton.cdiv(width, _channels(n_dim)))
    _forward[grid](
        u, dt, a, b, c, start, y, last, starts, count, width, n_dim, **_tiles(n_dim), KEEP=keep
    )  # fmt: skip
    return y, last, starts


@selective_scan.register_fake
def _written(
    u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, start: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    tiles = (u.shape[1] + TOKENS - 1) // TOKENS if keep else 0
    y, last = unwritten(u, start)
    return y, last, u.new_empty(u.shape[0], tiles, u.shape[2], a.shape[1])


@torch.library.custom_op("nas::selective_scan_back", mutates_args=())
def selective_scan_back(
    u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, starts: Tensor, dy: Tensor, dlast: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, dt, a, b, c and of the first state."""
    u, dt, a, b, c, dy, dlast = (part.contiguous() for part in (u, dt, a, b, c, dy, dlast))
    batch, count, width = u.shape
    n_dim = a.shape[1]
    blocks = triton.cdiv(width, _channels(n_dim))
    du, ddt, da, dstart = unwritten(u, dt, dlast, dlast)
    db, dc = (u.new_empty(batch, blocks, count, n_dim) for _ in range(2))
    _backward[(batch, blocks)](
        u, dt, a, b, c, starts, dy, dlast, du, ddt, da, db, dc, dstart, count, width, n_dim, **_tiles(n_dim)
    )
    return du, ddt, da.sum(0), db.sum(1), dc.sum(1), dstart


@selective_scan_back.register_fake
def _(
    u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, starts: Tensor, dy: Tensor, dlast: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    du, ddt, da, db, dc, dstart = unwritten(u, dt, a, b, c, dlast)
    return du, ddt, da, db, dc, dstart


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:5], output[2])


def _gradients(ctx: Any, dy: Tensor, dlast: Tensor, rest: Tensor) -> tuple[Tensor | None, ...]:
    gradients: tuple[Tensor, ...] = selective_scan_back(*ctx.saved_tensors, dy, dlast)
    return (*gradients, None)


selective_scan.register_autograd(_gradients, setup_context=_save)


def errors(device: torch.device) -> dict[str, float]:
    """Relative errors against the recurrence, token by token."""
    dice = Dice(device)

    inputs = {
        "u": dice.normal(2, 37, 40),
        "dt": dice.uniform(2, 37, 40),
        "a": -3 * dice.uniform(40, 12),
        "b": dice.normal(2, 37, 12),
        "c": dice.normal(2, 37, 12),
        "state": dice.normal(2, 40, 12),
    }

    def plain(*parts: Tensor) -> tuple[Tensor, Tensor]:
        return selective_scan_plainly(*parts[:4], c=parts[4], state=parts[5])

    return relative_errors(lambda *x: selective_scan(*x, True)[:2], plain, inputs)
