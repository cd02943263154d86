"""Linear attention under a decay per channel, as Triton kernels: forward and backward.

See `search_spaces.ops.gated_attention` for the recurrence. Time is cut as in `segments`, into chunks of 16
tokens. Between chunks everything is a matrix product with the state: a query fades since its chunk began, a
key until it ends. Within a chunk the fade between two tokens has no such factors that are at most one, so
pairs are summed as they are, a column of 16 at a time; so is what a token reads of itself. All exponents are
sums of decays, never differences of sums, so that strong decays are exact zeros.

The gradient walks each segment from its end; states before chunks are written once, in the inputs' dtype. The
gradient of a decay is local to its chunk: what later tokens of the chunk read, less what earlier ones leave,
and what passes through the whole chunk.

Shapes: B batch, T tokens, H heads, N state_dim, P head_dim, S segments, C chunks, L chunk length.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from search_spaces.ops.gated_attention import gated_attention_plainly
from search_spaces.ops.kernels.segments import Plan, carry, written
from search_spaces.ops.kernels.tiles import (
    COUNTS,
    Dice,
    load_tile,
    relative_errors,
    steps,
    store_tile,
    unwritten,
    with_rows,
)
from search_spaces.ops.kernels.tuning import Launch, launch

TOLERANCE = 3e-2
NARROW = (Launch(4), Launch(8))
WIDE = (Launch(8), Launch(16))
LENGTH = 16
"""Tokens of a chunk: the fewest that tensor cores take, since pairs within a chunk are not for them."""


@triton.jit
def _fades(g, start, count, gt, n, n_dim, AFTER: tl.constexpr, L: tl.constexpr):
    """Logarithms in a chunk [L, N] of a query's fade and of a key's, and that of the whole chunk [N].

    A query fades since the chunk began, up to itself (`AFTER`) or to the token before; a key from the token
    after it until the chunk ends.
    """
    i = tl.arange(0, L)
    here = load_tile(g, start + i, count, gt, n, n_dim).to(tl.float32)
    inner = (i < L - 1)[:, None]
    later = tl.where(inner, load_tile(g, start + i + 1, count, gt, n, n_dim).to(tl.float32), 0.0)
    if AFTER:
        read = tl.cumsum(here, axis=0)
    else:
        first = (i > 0)[:, None]
        # a chunk begins at token 0 or later, so what is masked here is not read from before the tensor
        at = start + tl.maximum(i - 1, 0)
        read = tl.cumsum(tl.where(first, load_tile(g, at, count, gt, n, n_dim).to(tl.float32), 0.0), axis=0)
    return read, tl.cumsum(later, axis=0, reverse=True), tl.sum(here, axis=0)


@triton.jit
def _next(state, whole, rows, columns, PRECISION: tl.constexpr):
    """A state [N, P] behind a chunk: it fades, and products of rows [L, N] with columns [L, P] are added."""
    return tl.dot(tl.trans(rows), columns, state * tl.exp(whole)[:, None], input_precision=PRECISION)


@triton.jit
def _earlier(k, g, fade, start, j, count, kt, gt, n, n_dim, AFTER: tl.constexpr, L: tl.constexpr):
    """The key of token j, and logarithms of what later tokens keep of it; `fade` is that of token j + 1."""
    i = tl.arange(0, L)
    decay = tl.load(g + (start + j + 1).to(tl.int64) * gt + n,
                    mask=(n < n_dim) & (start + j + 1 < count), other=0.0).to(tl.float32)  # fmt: skip
    key = tl.load(k + (start + j).to(tl.int64) * kt + n,
                  mask=(n < n_dim) & (start + j < count), other=0.0).to(tl.float32)  # fmt: skip
    reads = i > j if AFTER else i > j + 1
    return key, fade + tl.where(reads[:, None], decay[None, :], 0.0)


@triton.jit
def _weights(bonus, head, n, n_dim, AFTER: tl.constexpr):
    """What a token reads of its own key, by channel [N]: all of it, or the bonus of its head."""
    if AFTER:
        weights = tl.where(n < n_dim, 1.0, 0.0)
    else:
        weights = tl.load(bonus + head * n_dim + n, mask=n < n_dim, other=0.0).to(tl.float32)
    return weights


@triton.jit
def _scores(queries, keys, own, k, g, start, count, kt, gt, n, n_dim,
            AFTER: tl.constexpr, L: tl.constexpr):  # fmt: skip
    """What token i reads of token j <= i of its chunk [L, L]; `own` [N] weighs what it reads of itself."""
    i = tl.arange(0, L)
    diagonal = tl.sum(queries * keys * own[None, :], axis=1)
    scores = tl.where(i[:, None] == i[None, :], diagonal[:, None], 0.0)
    fade = tl.zeros(queries.shape, dtype=tl.float32)
    for number in range(1, L):
        j = L - 1 - number
        key, fade = _earlier(k, g, fade, start, j, count, kt, gt, n, n_dim, AFTER, L)
        column = tl.sum(queries * key[None, :] * tl.exp(fade), axis=1)
        scores = tl.where((i[None, :] == j) & (i > j)[:, None], column[:, None], scores)
    return scores


@triton.jit(do_not_specialize=COUNTS)
def _local_states(k, v, g, states, totals, count, heads, chunks, segments,
                  kb, kt, kh, vb, vt, vh, gb, gt, gh, n_dim, p_dim, AFTER: tl.constexpr,
                  L: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """What each segment alone writes [B H, S, N, P], and the logarithms of its decays [B H, S, N]."""
    row, segment = tl.program_id(0), tl.program_id(1)
    batch, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    n, p = tl.arange(0, N), tl.arange(0, P)
    k += batch * kb + head * kh
    v += batch * vb + head * vh
    g += batch * gb + head * gh
    state = tl.zeros((N, P), dtype=tl.float32)
    total = tl.zeros((N,), dtype=tl.float32)
    for chunk in range(segment * chunks, segment * chunks + chunks):
        start = chunk * L
        token = start + tl.arange(0, L)
        keys = load_tile(k, token, count, kt, n, n_dim)
        values = load_tile(v, token, count, vt, p, p_dim)
        _, left, whole = _fades(g, start, count, gt, n, n_dim, AFTER, L)
        leaving = (keys * tl.exp(left)).to(keys.dtype)
        state = _next(state, whole, leaving, values, PRECISION)
        total += whole
    where = (row.to(tl.int64) * segments + segment) * n_dim
    store_tile(states + where * p_dim, n, n_dim, p_dim, p, p_dim, state)
    tl.store(totals + where + n, total, mask=n < n_dim)


@triton.jit(do_not_specialize=COUNTS)
def _outputs(q, k, v, g, bonus, states, y, count, heads, chunks, segments,
             qb, qt, qh, kb, kt, kh, vb, vt, vh, gb, gt, gh, n_dim, p_dim, AFTER: tl.constexpr,
             L: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Outputs [B, T, H, P], contiguous, from the state that each segment starts from."""
    row, segment = tl.program_id(0), tl.program_id(1)
    batch, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    n, p = tl.arange(0, N), tl.arange(0, P)
    q += batch * qb + head * qh
    k += batch * kb + head * kh
    v += batch * vb + head * vh
    g += batch * gb + head * gh
    own = _weights(bonus, head, n, n_dim, AFTER)
    y += (batch * count * heads + head) * p_dim
    where = (row.to(tl.int64) * segments + segment) * n_dim * p_dim
    state = load_tile(states + where, n, n_dim, p_dim, p, p_dim)
    for chunk in range(segment * chunks, segment * chunks + chunks):
        start = chunk * L
        token = start + tl.arange(0, L)
        queries = load_tile(q, token, count, qt, n, n_dim)
        keys = load_tile(k, token, count, kt, n, n_dim)
        values = load_tile(v, token, count, vt, p, p_dim)
        read, left, whole = _fades(g, start, count, gt, n, n_dim, AFTER, L)
        exact, other = queries.to(tl.float32), keys.to(tl.float32)
        scores = _scores(exact, other, own, k, g, start, count, kt, gt, n, n_dim, AFTER, L)
        reading = (queries * tl.exp(read)).to(queries.dtype)
        out = tl.dot(reading, state.to(queries.dtype), input_precision=PRECISION)
        out = tl.dot(scores.to(values.dtype), values, out, input_precision=PRECISION)
        store_tile(y, token, count, heads * p_dim, p, p_dim, out)
        leaving = (keys * tl.exp(left)).to(keys.dtype)
        state = _next(state, whole, leaving, values, PRECISION)


@triton.jit(do_not_specialize=COUNTS)
def _chunk_states(k, v, g, states, befores, count, heads, chunks, segments,
                  kb, kt, kh, vb, vt, vh, gb, gt, gh, n_dim, p_dim, AFTER: tl.constexpr,
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
        start = chunk * L
        token = start + tl.arange(0, L)
        keys = load_tile(k, token, count, kt, n, n_dim)
        values = load_tile(v, token, count, vt, p, p_dim)
        _, left, whole = _fades(g, start, count, gt, n, n_dim, AFTER, L)
        leaving = (keys * tl.exp(left)).to(keys.dtype)
        state = _next(state, whole, leaving, values, PRECISION)


@triton.jit(do_not_specialize=COUNTS)
def _local_slopes(q, g, dy, slopes, count, heads, chunks, segments,
                  qb, qt, qh, gb, gt, gh, n_dim, p_dim, AFTER: tl.constexpr,
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
        start = (segment * chunks + chunks - 1 - number) * L
        token = start + tl.arange(0, L)
        queries = load_tile(q, token, count, qt, n, n_dim)
        grads = load_tile(dy, token, count, heads * p_dim, p, p_dim)
        read, _, whole = _fades(g, start, count, gt, n, n_dim, AFTER, L)
        reading = (queries * tl.exp(read)).to(queries.dtype)
        slope = _next(slope, whole, reading, grads, PRECISION)
    where = (row.to(tl.int64) * segments + segment) * n_dim * p_dim
    store_tile(slopes + where, n, n_dim, p_dim, p, p_dim, slope)


@triton.jit
def _pair_gradients(to_scores, queries, k, g, start, count, kt, gt, n, n_dim,
                    AFTER: tl.constexpr, L: tl.constexpr):  # fmt: skip
    """Gradients [L, N] of queries and keys by the scores of later with earlier tokens of a chunk."""
    i = tl.arange(0, L)
    to_q = tl.zeros(queries.shape, dtype=tl.float32)
    to_k = tl.zeros(queries.shape, dtype=tl.float32)
    fade = tl.zeros(queries.shape, dtype=tl.float32)
    for number in range(1, L):
        j = L - 1 - number
        key, fade = _earlier(k, g, fade, start, j, count, kt, gt, n, n_dim, AFTER, L)
        column = tl.sum(tl.where((i[None, :] == j) & (i > j)[:, None], to_scores, 0.0), axis=1)
        passed = column[:, None] * tl.exp(fade)
        to_q += passed * key[None, :]
        to_k = tl.where((i == j)[:, None], tl.sum(passed * queries, axis=0)[None, :], to_k)
    return to_q, to_k


@triton.jit(do_not_specialize=COUNTS)
def _gradients(q, k, v, g, bonus, dy, befores, slopes, dq, dk, dv, dg, dbonus, count, heads, chunks, segments,
               qb, qt, qh, kb, kt, kh, vb, vt, vh, gb, gt, gh, n_dim, p_dim, AFTER: tl.constexpr,
               L: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """All gradients [B, T, H, ...], contiguous, one segment from its end to its start.

    That of a bonus is of this segment alone [B H, S, N].
    """
    row, segment = tl.program_id(0), tl.program_id(1)
    batch, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    n, p, i = tl.arange(0, N), tl.arange(0, P), tl.arange(0, L)
    q += batch * qb + head * qh
    k += batch * kb + head * kh
    v += batch * vb + head * vh
    g += batch * gb + head * gh
    out = batch * count * heads + head
    where = (row.to(tl.int64) * segments + segment) * n_dim * p_dim
    slope = load_tile(slopes + where, n, n_dim, p_dim, p, p_dim)
    own = _weights(bonus, head, n, n_dim, AFTER)
    to_own = tl.zeros((N,), dtype=tl.float32)
    for number in range(chunks):
        chunk = segment * chunks + chunks - 1 - number
        start = chunk * L
        token = start + i
        queries = load_tile(q, token, count, qt, n, n_dim)
        keys = load_tile(k, token, count, kt, n, n_dim)
        values = load_tile(v, token, count, vt, p, p_dim)
        grads = load_tile(dy + out * p_dim, token, count, heads * p_dim, p, p_dim)
        where = (row.to(tl.int64) * segments * chunks + chunk) * n_dim * p_dim
        before = load_tile(befores + where, n, n_dim, p_dim, p, p_dim)
        read, left, whole = _fades(g, start, count, gt, n, n_dim, AFTER, L)
        exact, other = queries.to(tl.float32), keys.to(tl.float32)
        scores = _scores(exact, other, own, k, g, start, count, kt, gt, n, n_dim, AFTER, L)
        after = slope.to(keys.dtype)
        to_v = tl.dot((keys * tl.exp(left)).to(keys.dtype), after, input_precision=PRECISION)
        to_v = tl.dot(tl.trans(scores.to(grads.dtype)), grads, to_v, input_precision=PRECISION)
        store_tile(dv + out * p_dim, token, count, heads * p_dim, p, p_dim, to_v)
        to_scores = tl.dot(grads, tl.trans(values), input_precision=PRECISION)
        to_q, to_k = _pair_gradients(to_scores, exact, k, g, start, count, kt, gt, n, n_dim, AFTER, L)
        to_q += tl.dot(grads, tl.trans(before), input_precision=PRECISION) * tl.exp(read)
        leaving = tl.dot(values, tl.trans(after), input_precision=PRECISION) * tl.exp(left)
        by_q, by_left = to_q * exact, leaving * other
        local = by_q - to_k * other - by_left
        through = tl.sum(before.to(tl.float32) * slope, axis=1) * tl.exp(whole)
        to_g = tl.cumsum(local, axis=0, reverse=True) + (tl.sum(by_left, axis=0) + through)[None, :]
        if not AFTER:
            to_g -= by_q
        store_tile(dg + out * n_dim, token, count, heads * n_dim, n, n_dim, to_g)
        # what a token reads of itself does not fade
        diagonal = tl.sum(tl.where(i[:, None] == i[None, :], to_scores, 0.0), axis=1)[:, None]
        store_tile(
            dq + out * n_dim, token, count, heads * n_dim, n, n_dim, to_q + diagonal * other * own[None, :]
        )
        to_k += leaving + diagonal * exact * own[None, :]
        store_tile(dk + out * n_dim, token, count, heads * n_dim, n, n_dim, to_k)
        if not AFTER:
            to_own += tl.sum(diagonal * exact * other, axis=0)
        reading = (queries * tl.exp(read)).to(queries.dtype)
        slope = _next(slope, whole, reading, grads, PRECISION)
    if not AFTER:
        tl.store(dbonus + (row.to(tl.int64) * segments + segment) * n_dim + n, to_own, mask=n < n_dim)


def _plan(q: Tensor, v: Tensor) -> Plan:
    return Plan.of(q, v, shortest=16, length=LENGTH)


@torch.library.custom_op("nas::channel_decay", mutates_args=())
def channel_decay(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, bonus: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Outputs, the last state, and for the gradient the states and decays of segments.

    With a `bonus` [H, N] the memory is read before it fades and is written, else after.
    """
    q, k, v, g, bonus = *map(with_rows, (q, k, v, g)), _whole(bonus)
    plan, after = _plan(q, v), bonus is None
    y, last, states, totals = _written(q, k, v, g, bonus, state)
    read = (*steps(k), *steps(v), *steps(g), *plan.dims, after)
    warps = 8 if plan.wide else 4
    _local_states[plan.grid](k, v, g, states, totals, *plan.sizes, *read, **plan.tiles, num_warps=warps)
    carry(states, totals, state, last, reverse=False)
    arguments = (q, k, v, g, bonus, states, y, *plan.sizes, *steps(q), *read)
    launch(_outputs, plan.grid, arguments, (y,), WIDE if plan.wide else NARROW, **plan.tiles)
    return y, last, states, totals


@channel_decay.register_fake
def _written(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, bonus: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return written(_plan(q, v), v, state, channels=True)


@torch.library.custom_op("nas::channel_decay_back", mutates_args=())
def channel_decay_back(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    bonus: Tensor | None,
    states: Tensor,
    totals: Tensor,
    dy: Tensor,
    dlast: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, g, the first state, and the bonus (of no use where there is none)."""
    q, k, v, g, bonus = *map(with_rows, (q, k, v, g)), _whole(bonus)
    dy, plan, after = dy.contiguous(), _plan(q, v), bonus is None
    dq, dk, dv, dg, dstate, _ = found = _written_back(q, k, v, g, bonus, states, totals, dy, dlast)
    befores = v.new_empty(plan.rows, plan.segments * plan.chunks, *plan.dims)
    warps = 8 if plan.wide else 4
    read = (*steps(k), *steps(v), *steps(g), *plan.dims, after)
    _chunk_states[plan.grid](k, v, g, states, befores, *plan.sizes, *read, **plan.tiles, num_warps=warps)
    slopes = torch.empty_like(states)
    _local_slopes[plan.grid](
        q, g, dy, slopes, *plan.sizes, *steps(q), *steps(g), *plan.dims, after, **plan.tiles, num_warps=warps
    )
    carry(slopes, totals, dlast, dstate, reverse=True)
    owns = None if after else torch.empty_like(totals)
    arguments = (
        q, k, v, g, bonus, dy, befores, slopes, dq, dk, dv, dg, owns, *plan.sizes, *steps(q), *read
    )  # fmt: skip
    launch(_gradients, plan.grid, arguments, (dq, dk, dv, dg), WIDE if plan.wide else NARROW, **plan.tiles)
    if owns is None:
        return found
    return *found[:5], owns.unflatten(0, (plan.batch, plan.heads)).sum((0, 2))


@channel_decay_back.register_fake
def _written_back(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    bonus: Tensor | None,
    states: Tensor,
    totals: Tensor,
    dy: Tensor,
    dlast: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    dq, dk, dv = unwritten(q, k, v)
    dg, dstate = unwritten(g, dlast, dtype=torch.float32)
    return dq, dk, dv, dg, dstate, dg.new_empty(*q.shape[2:] if bonus is not None else (0,))


def _whole(bonus: Tensor | None) -> Tensor | None:
    return None if bonus is None else bonus.contiguous()


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *parts, _ = inputs
    _, _, states, totals = output
    ctx.save_for_backward(*parts, states, totals)


def _backward(ctx: Any, dy: Tensor, dlast: Tensor, *rest: Tensor) -> tuple[Tensor | None, ...]:
    *found, dstate, dbonus = channel_decay_back(*ctx.saved_tensors, dy, dlast)
    return *found, dbonus if ctx.needs_input_grad[4] else None, dstate


channel_decay.register_autograd(_backward, setup_context=_save)


def errors(
    device: torch.device, dtype: torch.dtype = torch.bfloat16, n_dim: int = 64, p_dim: int = 64
) -> dict[str, float]:
    """Relative errors in a dtype against the recurrence in float64, for tiles of [N, P] that are not full."""
    p_dim = 3 * p_dim // 4
    dice = Dice(device)

    inputs = {
        "q": (dice.normal(2, 67, 3, n_dim) / n_dim**0.5).to(dtype),
        "k": dice.normal(2, 67, 3, n_dim).to(dtype),
        "v": dice.normal(2, 67, 3, p_dim).to(dtype),
        "g": -0.3 * dice.uniform(2, 67, 3, n_dim),
        "state": dice.normal(2, 3, n_dim, p_dim),
    }
    found = relative_errors(_read, lambda *x: gated_attention_plainly(*x), inputs)
    inputs["bonus"] = dice.normal(3, n_dim)
    before = relative_errors(_read, lambda *x: gated_attention_plainly(*x[:5], bonus=x[5]), inputs)
    return found | {f"{name} with a bonus": error for name, error in before.items()}


def _read(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, state: Tensor, bonus: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    y, last, _, _ = channel_decay(q, k, v, g, bonus, state)
    return y, last
