"""Linear attention under one decay per head and token, as Triton kernels: forward and backward.

See `search_spaces.ops.decay_attention` for the recurrence. Time is cut into segments, and those into chunks.
Each program of the first kernel reads one segment and leaves the state that the segment alone writes; a
second kernel carries states over segments; in a third, each program walks its segment from its true state and
writes outputs. So keys and values are read twice, and no state of a chunk is written.

The gradient walks each segment from its end, with the slope of the state carried in the same way; states
before chunks are written once, in the inputs' dtype. The gradient of a decay g_t is local to its chunk: it is
what later tokens of the chunk read from earlier ones or from the state before the chunk, what earlier ones
leave behind, and what passes through the whole chunk. No long sums that cancel are formed.

Shapes: B batch, T tokens, H heads, N state_dim, P head_dim, S segments, C chunks, L chunk length.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from search_spaces.ops.decay_attention import decay_attention_plainly
from search_spaces.ops.kernels.segments import Plan, carry, written
from search_spaces.ops.kernels.tiles import (
    COUNTS,
    ROWS,
    Dice,
    kept,
    load_row,
    load_tile,
    relative_errors,
    steps,
    store_tile,
    with_rows,
)
from search_spaces.ops.kernels.tuning import Launch, launch

TOLERANCE = 3e-2
NARROW = (Launch(4), Launch(8, 2), Launch(4, 1))
WIDE = (Launch(8), Launch(8, 1), Launch(8, 2))
BACKWARD = (Launch(8, 1), Launch(4, 1))


@triton.jit(do_not_specialize=COUNTS + ROWS)
def _local_states(k, v, g, states, totals, count, heads, chunks, segments,
                  kb, kt, kh, vb, vt, vh, gb, gt, gh, n_dim, p_dim,
                  L: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """What each segment alone writes [B H, S, N, P], and the logarithm of its decay [B H, S]."""
    row, segment = tl.program_id(0), tl.program_id(1)
    batch, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    n, p = tl.arange(0, N), tl.arange(0, P)
    k += batch * kb + head * kh
    v += batch * vb + head * vh
    g += batch * gb + head * gh
    state = tl.zeros((N, P), dtype=tl.float32)
    total = 0.0
    for chunk in range(segment * chunks, segment * chunks + chunks):
        token = chunk * L + tl.arange(0, L)
        keys = load_tile(k, token, count, kt, n, n_dim)
        values = load_tile(v, token, count, vt, p, p_dim)
        decay = load_row(g, token, count, gt)
        whole = tl.sum(decay, axis=0)
        left = (keys * tl.exp(whole - tl.cumsum(decay, axis=0))[:, None]).to(keys.dtype)
        state = state * tl.exp(whole) + tl.dot(tl.trans(left), values, input_precision=PRECISION)
        total += whole
    where = (row.to(tl.int64) * segments + segment) * n_dim * p_dim
    store_tile(states + where, n, n_dim, p_dim, p, p_dim, state)
    tl.store(totals + row * segments + segment, total)


@triton.jit(do_not_specialize=COUNTS + ROWS)
def _outputs(q, k, v, g, states, y, count, heads, chunks, segments,
             qb, qt, qh, kb, kt, kh, vb, vt, vh, gb, gt, gh, n_dim, p_dim,
             L: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Outputs [B, T, H, P], contiguous, from the state that each segment starts from."""
    row, segment = tl.program_id(0), tl.program_id(1)
    batch, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    n, p = tl.arange(0, N), tl.arange(0, P)
    q += batch * qb + head * qh
    k += batch * kb + head * kh
    v += batch * vb + head * vh
    g += batch * gb + head * gh
    y += (batch * count * heads + head) * p_dim
    where = (row.to(tl.int64) * segments + segment) * n_dim * p_dim
    state = load_tile(states + where, n, n_dim, p_dim, p, p_dim)
    for chunk in range(segment * chunks, segment * chunks + chunks):
        token = chunk * L + tl.arange(0, L)
        queries = load_tile(q, token, count, qt, n, n_dim)
        keys = load_tile(k, token, count, kt, n, n_dim)
        values = load_tile(v, token, count, vt, p, p_dim)
        decay = load_row(g, token, count, gt)
        sums, whole = tl.cumsum(decay, axis=0), tl.sum(decay, axis=0)
        scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * kept(sums, L)
        out = tl.dot(queries, state.to(queries.dtype), input_precision=PRECISION) * tl.exp(sums)[:, None]
        out = tl.dot(scores.to(values.dtype), values, out, input_precision=PRECISION)
        store_tile(y, token, count, heads * p_dim, p, p_dim, out)
        left = (keys * tl.exp(whole - sums)[:, None]).to(keys.dtype)
        state = state * tl.exp(whole) + tl.dot(tl.trans(left), values, input_precision=PRECISION)


@triton.jit(do_not_specialize=COUNTS + ROWS)
def _chunk_states(k, v, g, states, befores, count, heads, chunks, segments,
                  kb, kt, kh, vb, vt, vh, gb, gt, gh, n_dim, p_dim,
                  L: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """The state before every chunk [B H, C, N, P] in the dtype of `befores`."""
    row, segment = tl.program_id(0), tl.program_id(1)
    batch, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    n, p = tl.arange(0, N), tl.arange(0, P)
    k += batch * kb + head * kh
    v += batch * vb + head * vh
    g += batch * gb + head * gh
    where = (row.to(tl.int64) * segments + segment) * n_dim * p_dim
    state = load_tile(states + where, n, n_dim, p_dim, p, p_dim)
    for chunk in range(segment * chunks, segment * chunks + chunks):
        where = (row.to(tl.int64) * segments * chunks + chunk) * n_dim * p_dim
        store_tile(befores + where, n, n_dim, p_dim, p, p_dim, state)
        token = chunk * L + tl.arange(0, L)
        keys = load_tile(k, token, count, kt, n, n_dim)
        values = load_tile(v, token, count, vt, p, p_dim)
        decay = load_row(g, token, count, gt)
        whole = tl.sum(decay, axis=0)
        left = (keys * tl.exp(whole - tl.cumsum(decay, axis=0))[:, None]).to(keys.dtype)
        state = state * tl.exp(whole) + tl.dot(tl.trans(left), values, input_precision=PRECISION)


@triton.jit(do_not_specialize=COUNTS + ROWS)
def _local_slopes(q, g, dy, slopes, count, heads, chunks, segments,
                  qb, qt, qh, gb, gt, gh, n_dim, p_dim,
                  L: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """The slope of the state before a segment by the segment's own outputs [B H, S, N, P]."""
    row, segment = tl.program_id(0), tl.program_id(1)
    batch, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    n, p = tl.arange(0, N), tl.arange(0, P)
    q += batch * qb + head * qh
    g += batch * gb + head * gh
    dy += (batch * count * heads + head) * p_dim
    slope = tl.zeros((N, P), dtype=tl.float32)
    for number in range(chunks):
        token = (segment * chunks + chunks - 1 - number) * L + tl.arange(0, L)
        queries = load_tile(q, token, count, qt, n, n_dim)
        grads = load_tile(dy, token, count, heads * p_dim, p, p_dim)
        decay = load_row(g, token, count, gt)
        reading = (queries * tl.exp(tl.cumsum(decay, axis=0))[:, None]).to(queries.dtype)
        slope = slope * tl.exp(tl.sum(decay, axis=0))
        slope = tl.dot(tl.trans(reading), grads, slope, input_precision=PRECISION)
    where = (row.to(tl.int64) * segments + segment) * n_dim * p_dim
    store_tile(slopes + where, n, n_dim, p_dim, p, p_dim, slope)


@triton.jit(do_not_specialize=COUNTS + ROWS)
def _gradients(q, k, v, g, dy, befores, slopes, dq, dk, dv, dg, count, heads, chunks, segments,
               qb, qt, qh, kb, kt, kh, vb, vt, vh, gb, gt, gh, n_dim, p_dim,
               L: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """All gradients [B, T, H, ...], contiguous, one segment from its end to its start."""
    row, segment = tl.program_id(0), tl.program_id(1)
    batch, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    n, p = tl.arange(0, N), tl.arange(0, P)
    q += batch * qb + head * qh
    k += batch * kb + head * kh
    v += batch * vb + head * vh
    g += batch * gb + head * gh
    out = batch * count * heads + head
    where = (row.to(tl.int64) * segments + segment) * n_dim * p_dim
    slope = load_tile(slopes + where, n, n_dim, p_dim, p, p_dim)
    for number in range(chunks):
        chunk = segment * chunks + chunks - 1 - number
        token = chunk * L + tl.arange(0, L)
        queries = load_tile(q, token, count, qt, n, n_dim)
        keys = load_tile(k, token, count, kt, n, n_dim)
        values = load_tile(v, token, count, vt, p, p_dim)
        grads = load_tile(dy + out * p_dim, token, count, heads * p_dim, p, p_dim)
        decay = load_row(g, token, count, gt)
        where = (row.to(tl.int64) * segments * chunks + chunk) * n_dim * p_dim
        before = load_tile(befores + where, n, n_dim, p_dim, p, p_dim)
        sums, whole = tl.cumsum(decay, axis=0), tl.sum(decay, axis=0)
        entered, left, fade = tl.exp(sums), tl.exp(whole - sums), kept(sums, L)
        scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * fade
        to_scores = tl.dot(grads, tl.trans(values), input_precision=PRECISION)
        passed = scores * to_scores
        to_scores = (to_scores * fade).to(keys.dtype)
        after = slope.to(keys.dtype)
        to_v = tl.dot((keys * left[:, None]).to(keys.dtype), after, input_precision=PRECISION)
        to_v = tl.dot(tl.trans(scores.to(grads.dtype)), grads, to_v, input_precision=PRECISION)
        store_tile(dv + out * p_dim, token, count, heads * p_dim, p, p_dim, to_v)
        to_q = tl.dot(grads, tl.trans(before), input_precision=PRECISION) * entered[:, None]
        local = tl.sum(to_q * queries.to(tl.float32), axis=1)
        to_q = tl.dot(to_scores, keys, to_q, input_precision=PRECISION)
        store_tile(dq + out * n_dim, token, count, heads * n_dim, n, n_dim, to_q)
        to_k = tl.dot(values, tl.trans(after), input_precision=PRECISION) * left[:, None]
        by_left = tl.sum(to_k * keys.to(tl.float32), axis=1)
        to_k = tl.dot(tl.trans(to_scores), queries, to_k, input_precision=PRECISION)
        store_tile(dk + out * n_dim, token, count, heads * n_dim, n, n_dim, to_k)
        local += tl.sum(passed, axis=1) - tl.sum(passed, axis=0) - by_left
        through = tl.sum(tl.sum(before.to(tl.float32) * slope, axis=1), axis=0) * tl.exp(whole)
        to_g = tl.cumsum(local, axis=0, reverse=True) + tl.sum(by_left, axis=0) + through
        tl.store(dg + out + token.to(tl.int64) * heads, to_g, mask=token < count)
        reading = (queries * entered[:, None]).to(queries.dtype)
        slope = slope * tl.exp(whole) + tl.dot(tl.trans(reading), grads, input_precision=PRECISION)


@torch.library.custom_op("nas::decay_attention", mutates_args=())
def decay_attention(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, state: Tensor, exact: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Outputs, the last state, and for the gradient the states and decays of segments.

    Outputs have the dtype of v, or where they shall be `exact`, float32.
    """
    q, k, v = with_rows(q), with_rows(k), with_rows(v)
    plan = Plan.of(q, v)
    y, last, states, totals = _written(q, k, v, g, state, exact)
    read = (*steps(k), *steps(v), *steps(g), *plan.dims)
    _local_states[plan.grid](k, v, g, states, totals, *plan.sizes, *read, **plan.tiles, num_warps=4)
    carry(states, totals, state, last, reverse=False)
    arguments = (q, k, v, g, states, y, *plan.sizes, *steps(q), *read)
    launch(_outputs, plan.grid, arguments, (y,), WIDE if plan.wide else NARROW, **plan.tiles)
    return y, last, states, totals


@decay_attention.register_fake
def _written(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, state: Tensor, exact: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    y, last, states, totals = written(Plan.of(q, v), v, state, channels=False)
    return y.new_empty(y.shape, dtype=torch.float32) if exact else y, last, states, totals


@torch.library.custom_op("nas::decay_attention_back", mutates_args=())
def decay_attention_back(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, states: Tensor, totals: Tensor, dy: Tensor, dlast: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, g, each for every head, and of the first state."""
    q, k, v, dy = with_rows(q), with_rows(k), with_rows(v), dy.to(v.dtype).contiguous()
    plan = Plan.of(q, v)
    found = dq, dk, dv, dg, dstate = _written_back(q, k, v, g, states, totals, dy, dlast)
    befores = v.new_empty(plan.rows, plan.segments * plan.chunks, *plan.dims)
    warps = 8 if plan.wide else 4
    read = (*steps(k), *steps(v), *steps(g), *plan.dims)
    _chunk_states[plan.grid](k, v, g, states, befores, *plan.sizes, *read, **plan.tiles, num_warps=warps)
    slopes = torch.empty_like(states)
    _local_slopes[plan.grid](
        q, g, dy, slopes, *plan.sizes, *steps(q), *steps(g), *plan.dims, **plan.tiles, num_warps=warps
    )
    carry(slopes, totals, dlast, dstate, reverse=True)
    arguments = (q, k, v, g, dy, befores, slopes, dq, dk, dv, dg, *plan.sizes, *steps(q), *read)
    launch(_gradients, plan.grid, arguments, (dq, dk, dv, dg), BACKWARD, **plan.tiles)
    return found


@decay_attention_back.register_fake
def _written_back(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, states: Tensor, totals: Tensor, dy: Tensor, dlast: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    shape, exact = (*v.shape[:3], q.shape[-1]), torch.float32
    dq, dk, dg = q.new_empty(shape), k.new_empty(shape), g.new_empty(shape[:3], dtype=exact)
    return dq, dk, v.new_empty(v.shape), dg, dlast.new_empty(dlast.shape, dtype=exact)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    q, k, v, g, *_ = inputs
    _, _, states, totals = output
    ctx.save_for_backward(q, k, v, g, states, totals)


def _backward(ctx: Any, dy: Tensor, dlast: Tensor, *rest: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, g, states, totals = ctx.saved_tensors
    dq, dk, dv, dg, dstate = decay_attention_back(q, k, v, g, states, totals, dy, dlast)
    if q.shape[2] == 1:
        dq = dq.sum(2, keepdim=True)
    if k.shape[2] == 1:
        dk = dk.sum(2, keepdim=True)
    return dq, dk, dv, dg, dstate, None


decay_attention.register_autograd(_backward, setup_context=_save)


def errors(
    device: torch.device, dtype: torch.dtype = torch.bfloat16, n_dim: int = 64, p_dim: int = 64
) -> dict[str, float]:
    """Relative errors in a dtype against the recurrence in float64, for tiles of [N, P] that are not full."""
    p_dim = 3 * p_dim // 4
    dice = Dice(device)

    inputs = {
        "q": (dice.normal(2, 67, 1, n_dim) / n_dim**0.5).to(dtype),
        "k": dice.normal(2, 67, 1, n_dim).to(dtype),
        "v": dice.normal(2, 67, 3, p_dim).to(dtype),
        "g": -0.3 * dice.uniform(2, 67, 3),
        "state": dice.normal(2, 3, n_dim, p_dim),
    }
    return relative_errors(lambda *x: decay_attention(*x)[:2], lambda *x: decay_attention_plainly(*x), inputs)
