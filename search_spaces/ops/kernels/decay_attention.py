"""Linear attention under one decay per head and token, as Triton kernels: forward and backward.

See `search_spaces.ops.decay_attention` for the recurrence. Time is cut into chunks. Programs that walk over
them, each with a part of the state, write the state before every chunk in the inputs' dtype; then all chunks
are computed at once. Where there are too few heads to keep a device busy, time is first cut into segments,
whose states are carried on as `segments` says.

The gradient walks back over chunks with the slope of the state in the same way, and then computes all chunks
at once. The gradient of a decay g_t is local to its chunk: it is what later tokens of the chunk read from
earlier ones or from the state before the chunk, what earlier ones leave behind, and what passes through the
whole chunk. No long sums that cancel are formed.

Shapes: B batch, T tokens, H heads, N state_dim, P head_dim, S segments, C chunks, L chunk length.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from search_spaces.ops.decay_attention import decay_attention_plainly
from search_spaces.ops.kernels.segments import Plan, walked
from search_spaces.ops.kernels.tiles import (
    CHUNK,
    COUNTS,
    ROWS,
    Dice,
    kept,
    load_tile,
    relative_errors,
    steps,
    store_tile,
    with_rows,
)
from search_spaces.ops.kernels.tuning import Launch, launch

TOLERANCE = 3e-2
COUNT = 5 * CHUNK + 3
"""Tokens of what the kernels prove themselves on: enough for two segments."""

NARROW = (Launch(4, 1, 128), Launch(4, 1), Launch(8, 1))
WIDE = (Launch(4, 1), Launch(8, 1, 96))
NARROW_BACK = (Launch(4, 1), Launch(4, 1, 168))
WIDE_BACK = (Launch(8, 1),)
WALK = (Launch(4, 4), Launch(2, 4), Launch(4, 2), Launch(1, 3))


@triton.jit(do_not_specialize=COUNTS + ROWS)
def _sums(g, sums, count, heads, total, gb, gt, gh, L: tl.constexpr, H: tl.constexpr):
    """Running sums of decays in a chunk [B H, C L]; what is behind the last token does not fade."""
    chunk, batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    token, head = chunk * L + tl.arange(0, L), tl.program_id(2) * H + tl.arange(0, H)
    inside = (token < count)[:, None] & (head < heads)[None, :]
    at = token[:, None].to(tl.int64) * gt + head[None, :].to(tl.int64) * gh
    decay = tl.load(g + batch * gb + at, mask=inside, other=0.0).to(tl.float32)
    where = (batch * heads + head)[None, :] * (total * L) + token[:, None]
    tl.store(sums + where, tl.cumsum(decay, axis=0), mask=(head < heads)[None, :])


@triton.jit(do_not_specialize=COUNTS)
def _states(rows, columns, sums, starts, each, ends, totals, count, heads, chunks, segments,
            rb, rt, rh, cb, ct, ch, n_dim, p_dim, REVERSE: tl.constexpr, EACH: tl.constexpr,
            L: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """A tile of the states before chunks (of keys and values), or `REVERSE` of the slopes behind them.

    With `EACH` they start from `starts` [B H, S, N, P], and are written for every chunk [B H, C, N, P], as is
    what comes out in the end [B H, N, P]. Without it they start from nothing, and only what each segment
    writes is kept [B H, S, N, P], and the logarithm of its decay [B H, S].
    """
    row, segment = tl.program_id(0), tl.program_id(1)
    batch, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    across = tl.cdiv(p_dim, P)
    n = tl.program_id(2) // across * N + tl.arange(0, N)
    p = tl.program_id(2) % across * P + tl.arange(0, P)
    i = tl.arange(0, L)
    rows += batch * rb + head * rh
    columns += batch * cb + head * ch
    of_segment, size = row.to(tl.int64) * segments + segment, n_dim * p_dim
    if EACH and starts is not None:
        state = load_tile(starts + of_segment * size, n, n_dim, p_dim, p, p_dim)
    else:
        state = tl.zeros((N, P), dtype=tl.float32)
    total = 0.0
    for number in range(chunks):
        chunk = segment * chunks + (chunks - 1 - number if REVERSE else number)
        of_chunk = row.to(tl.int64) * segments * chunks + chunk
        if EACH:
            store_tile(each + of_chunk * size, n, n_dim, p_dim, p, p_dim, state)
        token = chunk * L + i
        # read as it is multiplied, transposed
        at = n[:, None] + token[None, :].to(tl.int64) * rt
        left = tl.load(rows + at, mask=(n < n_dim)[:, None] & (token < count)[None, :], other=0.0)
        right = load_tile(columns, token, count, ct, p, p_dim)
        so_far, whole = tl.load(sums + of_chunk * L + i), tl.load(sums + of_chunk * L + L - 1)
        fade = tl.exp(so_far) if REVERSE else tl.exp(whole - so_far)
        right = (right * fade[:, None]).to(right.dtype)
        state = tl.dot(left, right, state * tl.exp(whole), input_precision=PRECISION)
        total += whole
    if not EACH:
        store_tile(ends + of_segment * size, n, n_dim, p_dim, p, p_dim, state)
        tl.store(totals + of_segment, total)
    elif segment == (0 if REVERSE else segments - 1):
        store_tile(ends + row.to(tl.int64) * size, n, n_dim, p_dim, p, p_dim, state)


@triton.jit(do_not_specialize=COUNTS)
def _outputs(q, k, v, decays, befores, y, count, heads, total,
             qb, qt, qh, kb, kt, kh, vb, vt, vh, n_dim, p_dim,
             L: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Outputs [B, T, H, P] of one chunk, contiguous, from the state before it."""
    row, chunk = tl.program_id(0), tl.program_id(1)
    batch, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    n, p = tl.arange(0, N), tl.arange(0, P)
    token = chunk * L + tl.arange(0, L)
    queries = load_tile(q + batch * qb + head * qh, token, count, qt, n, n_dim)
    keys = load_tile(k + batch * kb + head * kh, token, count, kt, n, n_dim)
    values = load_tile(v + batch * vb + head * vh, token, count, vt, p, p_dim)
    of_chunk = row.to(tl.int64) * total + chunk
    sums = tl.load(decays + of_chunk * L + tl.arange(0, L))
    before = load_tile(befores + of_chunk * n_dim * p_dim, n, n_dim, p_dim, p, p_dim)
    scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * kept(sums, L)
    out = tl.dot(queries, before, input_precision=PRECISION) * tl.exp(sums)[:, None]
    out = tl.dot(scores.to(values.dtype), values, out, input_precision=PRECISION)
    store_tile(y + (batch * count * heads + head) * p_dim, token, count, heads * p_dim, p, p_dim, out)


@triton.jit(do_not_specialize=COUNTS)
def _gradients(q, k, v, decays, dy, befores, afters, dq, dk, dv, dg, count, heads, total,
               qb, qt, qh, kb, kt, kh, vb, vt, vh, n_dim, p_dim,
               L: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """All gradients [B, T, H, ...] of one chunk, contiguous."""
    row, chunk = tl.program_id(0), tl.program_id(1)
    batch, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    n, p = tl.arange(0, N), tl.arange(0, P)
    token, out = chunk * L + tl.arange(0, L), batch * count * heads + head
    queries = load_tile(q + batch * qb + head * qh, token, count, qt, n, n_dim)
    keys = load_tile(k + batch * kb + head * kh, token, count, kt, n, n_dim)
    values = load_tile(v + batch * vb + head * vh, token, count, vt, p, p_dim)
    grads = load_tile(dy + out * p_dim, token, count, heads * p_dim, p, p_dim)
    of_chunk = row.to(tl.int64) * total + chunk
    before = load_tile(befores + of_chunk * n_dim * p_dim, n, n_dim, p_dim, p, p_dim)
    after = load_tile(afters + of_chunk * n_dim * p_dim, n, n_dim, p_dim, p, p_dim)
    sums, whole = tl.load(decays + of_chunk * L + tl.arange(0, L)), tl.load(decays + of_chunk * L + L - 1)
    entered, left, fade = tl.exp(sums), tl.exp(whole - sums), kept(sums, L)
    scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * fade
    to_scores = tl.dot(grads, tl.trans(values), input_precision=PRECISION)
    passed = scores * to_scores
    local = tl.sum(passed, axis=1) - tl.sum(passed, axis=0)
    to_scores = (to_scores * fade).to(keys.dtype)
    to_v = tl.dot(keys, after, input_precision=PRECISION) * left[:, None]
    to_v = tl.dot(tl.trans(scores.to(grads.dtype)), grads, to_v, input_precision=PRECISION)
    store_tile(dv + out * p_dim, token, count, heads * p_dim, p, p_dim, to_v)
    to_q = tl.dot(grads, tl.trans(before), input_precision=PRECISION) * entered[:, None]
    local += tl.sum(to_q * queries.to(tl.float32), axis=1)
    to_q = tl.dot(to_scores, keys, to_q, input_precision=PRECISION)
    store_tile(dq + out * n_dim, token, count, heads * n_dim, n, n_dim, to_q)
    to_k = tl.dot(values, tl.trans(after), input_precision=PRECISION) * left[:, None]
    by_left = tl.sum(to_k * keys.to(tl.float32), axis=1)
    to_k = tl.dot(tl.trans(to_scores), queries, to_k, input_precision=PRECISION)
    store_tile(dk + out * n_dim, token, count, heads * n_dim, n, n_dim, to_k)
    through = tl.sum(tl.sum(before.to(tl.float32) * after.to(tl.float32), axis=1), axis=0) * tl.exp(whole)
    to_g = tl.cumsum(local - by_left, axis=0, reverse=True) + tl.sum(by_left, axis=0) + through
    tl.store(dg + out + token.to(tl.int64) * heads, to_g, mask=token < count)


def _walked(
    plan: Plan, rows: Tensor, columns: Tensor, sums: Tensor, state: Tensor | None, *, reverse: bool
) -> tuple[Tensor, Tensor]:
    """The states before chunks [B H, C, N, P], or the slopes behind them; and what comes out in the end."""
    read = (*plan.sizes, *steps(rows), *steps(columns), *plan.dims, reverse)
    return walked(plan, _states, (rows, columns, sums), state, read, launches=WALK, channels=False)


@torch.library.custom_op("nas::decay_attention", mutates_args=())
def decay_attention(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, state: Tensor | None, exact: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs in the dtype of v, or where they shall be `exact`, in float32; and the last state.

    For the gradient also running sums of decays in each chunk.
    """
    q, k, v = with_rows(q), with_rows(k), with_rows(v)
    plan = Plan.in_parts(q, v)
    y, _, sums = _written(q, k, v, g, state, exact)
    grid = (plan.total, plan.batch, triton.cdiv(plan.heads, 16))
    _sums[grid](g, sums, plan.count, plan.heads, plan.total, *steps(g), L=CHUNK, H=16, num_warps=2)
    befores, last = _walked(plan, k, v, sums, state, reverse=False)
    read = (*steps(q), *steps(k), *steps(v), *plan.dims)
    arguments = (q, k, v, sums, befores, y, plan.count, plan.heads, plan.total, *read)
    launch(_outputs, plan.over_chunks, arguments, (y,), WIDE if plan.wide else NARROW, **plan.tiles)
    return y, last, sums


@decay_attention.register_fake
def _written(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, state: Tensor | None, exact: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    plan = Plan.in_parts(q, v)
    sums = v.new_empty(plan.rows, plan.total * CHUNK, dtype=torch.float32)
    last = sums.new_empty(plan.batch, plan.heads, *plan.dims)
    return v.new_empty(v.shape, dtype=torch.float32 if exact else v.dtype), last, sums


@torch.library.custom_op("nas::decay_attention_back", mutates_args=())
def decay_attention_back(
    q: Tensor, k: Tensor, v: Tensor, sums: Tensor, state: Tensor | None, dy: Tensor, dlast: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, g, each for every head, and of the first state."""
    q, k, v, dy = with_rows(q), with_rows(k), with_rows(v), dy.to(v.dtype).contiguous()
    plan = Plan.in_parts(q, v)
    dq, dk, dv, dg, _ = _written_back(q, k, v, sums, state, dy, dlast)
    befores, _ = _walked(plan, k, v, sums, state, reverse=False)
    afters, dstate = _walked(plan, q, dy, sums, dlast, reverse=True)
    sizes = (plan.count, plan.heads, plan.total)
    read = (*sizes, *steps(q), *steps(k), *steps(v), *plan.dims)
    arguments = (q, k, v, sums, dy, befores, afters, dq, dk, dv, dg, *read)
    ways = WIDE_BACK if plan.wide else NARROW_BACK
    launch(_gradients, plan.over_chunks, arguments, (dq, dk, dv, dg), ways, **plan.tiles)
    return dq, dk, dv, dg, dstate


@decay_attention_back.register_fake
def _written_back(
    q: Tensor, k: Tensor, v: Tensor, sums: Tensor, state: Tensor | None, dy: Tensor, dlast: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    shape = (*v.shape[:3], q.shape[-1])
    dstate = sums.new_empty(v.shape[0], v.shape[2], q.shape[-1], v.shape[-1])
    return q.new_empty(shape), k.new_empty(shape), v.new_empty(v.shape), sums.new_empty(v.shape[:3]), dstate


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    q, k, v, _, state, _ = inputs
    ctx.set_materialize_grads(False)  # where the last state is not used, there is nothing to add
    ctx.save_for_backward(q, k, v, output[2], state)


def _backward(ctx: Any, dy: Tensor | None, dlast: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    q, k, v, sums, state = ctx.saved_tensors
    dy = torch.zeros_like(v) if dy is None else dy
    dq, dk, dv, dg, dstate = decay_attention_back(q, k, v, sums, state, dy, dlast)
    if q.shape[2] == 1:
        dq = dq.sum(2, keepdim=True)
    if k.shape[2] == 1:
        dk = dk.sum(2, keepdim=True)
    return dq, dk, dv, dg, None if state is None else dstate, None


decay_attention.register_autograd(_backward, setup_context=_save)


def errors(
    device: torch.device, dtype: torch.dtype = torch.bfloat16, n_dim: int = 64, p_dim: int = 64
) -> dict[str, float]:
    """Relative errors in a dtype against the recurrence in float64, for tiles of [N, P] that are not full."""
    p_dim = 3 * p_dim // 4
    dice = Dice(device)

    inputs = {
        "q": (dice.normal(2, COUNT, 1, n_dim) / n_dim**0.5).to(dtype),
        "k": dice.normal(2, COUNT, 1, n_dim).to(dtype),
        "v": dice.normal(2, COUNT, 3, p_dim).to(dtype),
        "g": -0.3 * dice.uniform(2, COUNT, 3),
        "state": dice.normal(2, 3, n_dim, p_dim),
    }
    return relative_errors(lambda *x: decay_attention(*x)[:2], lambda *x: decay_attention_plainly(*x), inputs)
