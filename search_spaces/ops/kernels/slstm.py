"""The loop of the sLSTM over tokens as one Triton kernel: see `search_spaces.ops.slstm`.

A program owns one head of some sequences: it holds the head's recurrent matrices and the cell, and walks the
tokens one by one, so that a token costs no launch.

Shapes: B batch, T tokens, H heads, P head_dim.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from search_spaces.ops import slstm as plain
from search_spaces.ops.kernels.tiles import COUNTS, Dice, padded, precision

TOLERANCE = 1e-4
SEQUENCES = 16
"""Sequences of a program: the fewest rows that tensor cores take."""


@triton.jit
def _log_forget(a, SIGMOID: tl.constexpr):
    if SIGMOID:
        return tl.minimum(a, 0.0) - tl.log(1.0 + tl.exp(-tl.abs(a)))
    return a


@triton.jit
def _tanh(x):
    return 2.0 / (1.0 + tl.exp(-2.0 * x)) - 1.0


@triton.jit
def _matrix(base, gate: tl.constexpr, r, p, p_dim):
    at = r[:, None] * 4 * p_dim + gate * p_dim + p[None, :]
    return tl.load(base + at, mask=(r < p_dim)[:, None] & (p < p_dim)[None, :], other=0.0)


@triton.jit(do_not_specialize=COUNTS)
def _loop(u, matrix, h0, c0, n0, m0, gates, hs, cs, ns, ms, count, heads, batch, p_dim,
          B: tl.constexpr, P: tl.constexpr, SIGMOID: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    head = tl.program_id(0).to(tl.int64)
    row, r, p = tl.program_id(1) * B + tl.arange(0, B), tl.arange(0, P), tl.arange(0, P)
    inside = (row < batch)[:, None] & (p < p_dim)[None, :]
    at = (head * batch + row[:, None]) * p_dim + p[None, :]
    base = matrix + head * p_dim * 4 * p_dim
    rz, ri = _matrix(base, 0, r, p, p_dim), _matrix(base, 1, r, p, p_dim)
    rf, ro = _matrix(base, 2, r, p, p_dim), _matrix(base, 3, r, p, p_dim)
    h = tl.load(h0 + at, mask=inside, other=0.0).to(tl.float32)
    c = tl.load(c0 + at, mask=inside, other=0.0).to(tl.float32)
    n = tl.load(n0 + at, mask=inside, other=1.0).to(tl.float32)
    m = tl.load(m0 + at, mask=inside, other=0.0).to(tl.float32)
    size = (head * 0 + heads) * batch * p_dim
    tl.store(hs + at, h.to(hs.dtype.element_ty), mask=inside)
    tl.store(cs + at, c.to(cs.dtype.element_ty), mask=inside)
    tl.store(ns + at, n.to(ns.dtype.element_ty), mask=inside)
    tl.store(ms + at, m.to(ms.dtype.element_ty), mask=inside)
    wide = (head * batch + row[:, None]) * 4 * p_dim + p[None, :]
    for t in range(count):
        where = wide + t * size * 4
        low = h.to(matrix.dtype.element_ty)
        z = tl.load(u + where, mask=inside, other=0.0).to(tl.float32)
        i = tl.load(u + where + p_dim, mask=inside, other=0.0).to(tl.float32)
        f = tl.load(u + where + 2 * p_dim, mask=inside, other=0.0).to(tl.float32)
        o = tl.load(u + where + 3 * p_dim, mask=inside, other=0.0).to(tl.float32)
        z = tl.dot(low, rz, z, input_precision=PRECISION)
        i = tl.dot(low, ri, i, input_precision=PRECISION)
        f = tl.dot(low, rf, f, input_precision=PRECISION)
        o = tl.dot(low, ro, o, input_precision=PRECISION)
        kind = gates.dtype.element_ty
        tl.store(gates + where, z.to(kind), mask=inside)
        tl.store(gates + where + p_dim, i.to(kind), mask=inside)
        tl.store(gates + where + 2 * p_dim, f.to(kind), mask=inside)
        tl.store(gates + where + 3 * p_dim, o.to(kind), mask=inside)
        kept = _log_forget(f, SIGMOID) + m
        m = tl.maximum(kept, i)
        fade, added = tl.exp(kept - m), tl.exp(i - m)
        c = c * fade + added * _tanh(z)
        n = n * fade + added
        h = c / n / (1.0 + tl.exp(-o))
        there = at + (t + 1) * size
        tl.store(hs + there, h.to(hs.dtype.element_ty), mask=inside)
        tl.store(cs + there, c.to(cs.dtype.element_ty), mask=inside)
        tl.store(ns + there, n.to(ns.dtype.element_ty), mask=inside)
        tl.store(ms + there, m.to(ms.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=COUNTS)
def _loop_back(to_hs, to_c, to_n, matrix, by_c, by_n, by_h, fades, to_u, back, out_c, out_n,
               count, heads, batch, p_dim,
               B: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    head = tl.program_id(0).to(tl.int64)
    row, r, p = tl.program_id(1) * B + tl.arange(0, B), tl.arange(0, P), tl.arange(0, P)
    inside = (row < batch)[:, None] & (p < p_dim)[None, :]
    at = (head * batch + row[:, None]) * p_dim + p[None, :]
    base = matrix + head * p_dim * 4 * p_dim
    rz, ri = tl.trans(_matrix(base, 0, r, p, p_dim)), tl.trans(_matrix(base, 1, r, p, p_dim))
    rf, ro = tl.trans(_matrix(base, 2, r, p, p_dim)), tl.trans(_matrix(base, 3, r, p, p_dim))
    size = (head * 0 + heads) * batch * p_dim
    c = tl.load(to_c + at, mask=inside, other=0.0).to(tl.float32)
    n = tl.load(to_n + at, mask=inside, other=0.0).to(tl.float32)
    h = tl.zeros((B, P), dtype=tl.float32)
    three = (head * batch + row[:, None]) * 3 * p_dim + p[None, :]
    four = (head * batch + row[:, None]) * 4 * p_dim + p[None, :]
    for number in range(count):
        t = count - 1 - number
        one, many = at + t * size, three + t * size * 3
        h += tl.load(to_hs + one, mask=inside, other=0.0).to(tl.float32)
        c += h * tl.load(by_h + many, mask=inside, other=0.0).to(tl.float32)
        n += h * tl.load(by_h + many + p_dim, mask=inside, other=0.0).to(tl.float32)
        z = c * tl.load(by_c + many, mask=inside, other=0.0)
        z += n * tl.load(by_n + many, mask=inside, other=0.0)
        i = c * tl.load(by_c + many + p_dim, mask=inside, other=0.0)
        i += n * tl.load(by_n + many + p_dim, mask=inside, other=0.0)
        f = c * tl.load(by_c + many + 2 * p_dim, mask=inside, other=0.0)
        f += n * tl.load(by_n + many + 2 * p_dim, mask=inside, other=0.0)
        o = h * tl.load(by_h + many + 2 * p_dim, mask=inside, other=0.0)
        where = four + t * size * 4
        kind = to_u.dtype.element_ty
        tl.store(to_u + where, z.to(kind), mask=inside)
        tl.store(to_u + where + p_dim, i.to(kind), mask=inside)
        tl.store(to_u + where + 2 * p_dim, f.to(kind), mask=inside)
        tl.store(to_u + where + 3 * p_dim, o.to(kind), mask=inside)
        low = matrix.dtype.element_ty
        h = tl.dot(z.to(low), rz, input_precision=PRECISION)
        h = tl.dot(i.to(low), ri, h, input_precision=PRECISION)
        h = tl.dot(f.to(low), rf, h, input_precision=PRECISION)
        h = tl.dot(o.to(low), ro, h, input_precision=PRECISION)
        fade = tl.load(fades + one, mask=inside, other=0.0).to(tl.float32)
        c, n = c * fade, n * fade
    tl.store(back + at, h.to(back.dtype.element_ty), mask=inside)
    tl.store(out_c + at, c.to(out_c.dtype.element_ty), mask=inside)
    tl.store(out_n + at, n.to(out_n.dtype.element_ty), mask=inside)


def _tiles(matrix: Tensor) -> dict[str, Any]:
    p = padded(matrix.shape[1])
    return {"B": SEQUENCES, "P": p, "PRECISION": precision(matrix), "num_warps": 4 if p <= 32 else 8}


def loop(
    u: Tensor, matrix: Tensor, h: Tensor, c: Tensor, n: Tensor, m: Tensor, sigmoid: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gates [T, H, B, 4P], and h, c, n and m before the first token and after each [T + 1, H, B, P]."""
    u, matrix, h, c, n, m = (part.contiguous() for part in (u, matrix, h, c, n, m))
    count, heads, batch, _ = u.shape
    gates = torch.empty_like(u)
    hs, cs, ns, ms = (u.new_empty(count + 1, *h.shape) for _ in range(4))
    _loop[(heads, triton.cdiv(batch, SEQUENCES))](
        u, matrix, h, c, n, m, gates, hs, cs, ns, ms, count, heads, batch, h.shape[-1],
        SIGMOID=sigmoid, **_tiles(matrix),
    )  # fmt: skip
    return gates, hs, cs, ns, ms


def loop_back(
    to_hs: Tensor,
    to_c: Tensor,
    to_n: Tensor,
    matrix: Tensor,
    by_c: Tensor,
    by_n: Tensor,
    by_h: Tensor,
    fade: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u [T, H, B, 4P] and of the h, c and n that the loop began with [H, B, P]."""
    parts = (to_hs, to_c, to_n, matrix, by_c, by_n, by_h, fade)
    to_hs, to_c, to_n, matrix, by_c, by_n, by_h, fade = (part.contiguous() for part in parts)
    count, heads, batch, p = to_hs.shape
    to_u = to_hs.new_empty(count, heads, batch, 4 * p)
    back, first_c, first_n = (torch.empty_like(to_c) for _ in range(3))
    _loop_back[(heads, triton.cdiv(batch, SEQUENCES))](
        to_hs, to_c, to_n, matrix, by_c, by_n, by_h, fade, to_u, back, first_c, first_n,
        count, heads, batch, p, **_tiles(matrix),
    )  # fmt: skip
    return to_u, back, first_c, first_n


def errors(device: torch.device) -> dict[str, float]:
    """Relative errors of both loops against the plain ones."""
    dice = Dice(device)
    u, matrix = dice.normal(23, 2, 17, 4 * 24), dice.normal(2, 24, 4 * 24) / 24**0.5
    c, h, n, m = (dice.normal(2, 17, 24) for _ in range(4))
    state = (c, h, 1 + n.abs(), m)
    walked = plain.loop(u, matrix, *state, True)
    slopes = plain.slopes(*walked, True)
    ends = (dice.normal(23, 2, 17, 24), dice.normal(2, 17, 24), dice.normal(2, 17, 24), matrix)
    pairs = [
        *zip(loop(u, matrix, *state, True), walked, strict=True),
        *zip(loop_back(*ends, *slopes), plain.loop_back(*ends, *slopes), strict=True),
    ]
    return {f"output {i}": float((a - b).abs().max() / b.abs().max()) for i, (a, b) in enumerate(pairs)}
