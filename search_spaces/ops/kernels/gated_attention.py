"""Linear attention under a decay per channel, as Triton kernels: forward and backward.

See `search_spaces.ops.gated_attention` for the recurrence. Time is cut as in `decay_attention`: programs walk
over chunks with a part of the state each, then all chunks are computed at once. Between chunks everything is
a matrix product with the state: a query fades since its chunk began, a key until it ends.

Within a chunk the fade between two tokens has no factors for the one and the other that are at most one. In
a mild chunk, none of whose channels fades by more than `LIMIT` in either half, both are taken against the
middle of the chunk: they are numbers, and what tokens read of each other is a matrix product too. Any other
chunk is walked in short ones, with pairs of tokens summed as they are, a column at a time. There all
exponents are sums of decays, never differences of sums, so that strong decays are exact zeros.

The gradient walks back over chunks with the slope of the state, and then computes all chunks at once. That of
a decay is local to its chunk: what later tokens of the chunk read, less what earlier ones leave, and what
passes through the whole chunk.

Shapes: B batch, T tokens, H heads, N state_dim, P head_dim, S segments, C chunks, L chunk length.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from search_spaces.ops.gated_attention import gated_attention_plainly
from search_spaces.ops.kernels.channel_chunks import (
    behind_short,
    factors,
    fades,
    following,
    halves,
    pairs,
    seen,
    short_gradients,
    weights,
)
from search_spaces.ops.kernels.segments import Plan, walked
from search_spaces.ops.kernels.tiles import (
    CHUNK,
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
NARROW, WIDE = (Launch(4, 1, 128), Launch(4, 1)), (Launch(4, 1), Launch(8, 1))
NARROW_BACK, WIDE_BACK = (Launch(4, 1),), (Launch(8, 1),)
"""One each, since they take seconds to compile."""

WALK = (Launch(4, 3), Launch(2, 4))
SHORT = 16
"""Tokens of the chunks that one with strong decays is cut into: the fewest that tensor cores take."""

COUNT = 5 * CHUNK + 3
"""Tokens of what the kernels prove themselves on: enough for two segments."""

LIMIT, LIMITS = 40.0, {torch.float16: 5.0}
"""Decays that a channel may sum up over half a chunk for it to be mild: their exponentials are numbers."""


@triton.jit(do_not_specialize=COUNTS)
def _states(rows, columns, g, starts, each, ends, totals, count, heads, chunks, segments,
            rb, rt, rh, cb, ct, ch, gb, gt, gh, n_dim, p_dim, AFTER: tl.constexpr,
            REVERSE: tl.constexpr, EACH: tl.constexpr,
            L: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """A tile of the states before chunks (of keys and values), or `REVERSE` of the slopes behind them.

    With `EACH` they start from `starts` [B H, S, N, P], and are written for every chunk [B H, C, N, P], as is
    what comes out in the end [B H, N, P]. Without it they start from nothing, and only what each segment
    writes is kept [B H, S, N, P], and the logarithms of its decays [B H, S, N].
    """
    row, segment = tl.program_id(0), tl.program_id(1)
    batch, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    across = tl.cdiv(p_dim, P)
    n = tl.program_id(2) // across * N + tl.arange(0, N)
    p = tl.program_id(2) % across * P + tl.arange(0, P)
    rows += batch * rb + head * rh
    columns += batch * cb + head * ch
    g += batch * gb + head * gh
    size = n_dim * p_dim
    of_segment = row.to(tl.int64) * segments + segment
    if EACH and starts is not None:
        state = load_tile(starts + of_segment * size, n, n_dim, p_dim, p, p_dim)
    else:
        state = tl.zeros((N, P), dtype=tl.float32)
    total = tl.zeros((N,), dtype=tl.float32)
    for number in range(chunks):
        chunk = segment * chunks + (chunks - 1 - number if REVERSE else number)
        if EACH:
            where = (row.to(tl.int64) * segments * chunks + chunk) * size
            store_tile(each + where, n, n_dim, p_dim, p, p_dim, state)
        token = chunk * L + tl.arange(0, L)
        left = load_tile(rows, token, count, rt, n, n_dim)
        right = load_tile(columns, token, count, ct, p, p_dim)
        read, later, whole = fades(g, chunk * L, count, gt, n, n_dim, AFTER, L)
        left = (left * tl.exp(read if REVERSE else later)).to(left.dtype)
        state = following(state, whole, left, right, PRECISION)
        total += whole
    if not EACH:
        store_tile(ends + of_segment * size, n, n_dim, p_dim, p, p_dim, state)
        tl.store(totals + of_segment * n_dim + n, total, mask=n < n_dim)
    elif segment == (0 if REVERSE else segments - 1):
        store_tile(ends + row.to(tl.int64) * size, n, n_dim, p_dim, p, p_dim, state)


@triton.jit(do_not_specialize=COUNTS)
def _outputs(q, k, v, g, bonus, befores, y, count, heads, total,
             qb, qt, qh, kb, kt, kh, vb, vt, vh, gb, gt, gh, n_dim, p_dim, AFTER: tl.constexpr,
             LIMIT: tl.constexpr, SHORT: tl.constexpr,
             L: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Outputs [B, T, H, P] of one chunk, contiguous, from the state before it."""
    row, chunk = tl.program_id(0), tl.program_id(1)
    batch, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    n, p = tl.arange(0, N), tl.arange(0, P)
    q += batch * qb + head * qh
    k += batch * kb + head * kh
    v += batch * vb + head * vh
    g += batch * gb + head * gh
    y += (batch * count * heads + head) * p_dim
    own = weights(bonus, head, n, n_dim, AFTER)
    where = (row.to(tl.int64) * total + chunk) * n_dim * p_dim
    before = load_tile(befores + where, n, n_dim, p_dim, p, p_dim)
    here, first, _second, mild = halves(g, chunk * L, count, gt, n, n_dim, LIMIT, L)
    if mild:
        token = chunk * L + tl.arange(0, L)
        queries = load_tile(q, token, count, qt, n, n_dim)
        keys = load_tile(k, token, count, kt, n, n_dim)
        values = load_tile(v, token, count, vt, p, p_dim)
        of_query, of_key = factors(here, first, AFTER)
        reading, read = (queries * of_query).to(queries.dtype), (keys * of_key).to(keys.dtype)
        scores = tl.dot(reading, tl.trans(read), input_precision=PRECISION)
        scores = seen(scores, queries, keys, own, AFTER, L).to(values.dtype)
        entered = (before * tl.exp(first)[:, None]).to(before.dtype)
        out = tl.dot(reading, entered, input_precision=PRECISION)
        out = tl.dot(scores, values, out, input_precision=PRECISION)
        store_tile(y, token, count, heads * p_dim, p, p_dim, out)
    else:
        state = before.to(tl.float32)
        for part in range(L // SHORT):
            start = chunk * L + part * SHORT
            token = start + tl.arange(0, SHORT)
            queries = load_tile(q, token, count, qt, n, n_dim)
            keys = load_tile(k, token, count, kt, n, n_dim)
            values = load_tile(v, token, count, vt, p, p_dim)
            read, left, whole = fades(g, start, count, gt, n, n_dim, AFTER, SHORT)
            exact, other = queries.to(tl.float32), keys.to(tl.float32)
            scores, _to_q, _to_k = pairs(None, exact, other, own, k, g, start, count, kt, gt, n, n_dim,
                                         AFTER, False, SHORT)  # fmt: skip
            reading = (queries * tl.exp(read)).to(queries.dtype)
            out = tl.dot(reading, state.to(queries.dtype), input_precision=PRECISION)
            out = tl.dot(scores.to(values.dtype), values, out, input_precision=PRECISION)
            store_tile(y, token, count, heads * p_dim, p, p_dim, out)
            state = following(state, whole, (keys * tl.exp(left)).to(keys.dtype), values, PRECISION)


@triton.jit
def _mild_gradients(q, k, v, dy, dq, dk, dv, dg, own, before, after, here, first, second, start, count, heads,
                    qt, kt, vt, n_dim, p_dim, AFTER: tl.constexpr,
                    L: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Gradients of a mild chunk, written; its share of the bonus."""
    n, p, i = tl.arange(0, N), tl.arange(0, P), tl.arange(0, L)
    token = start + i
    queries = load_tile(q, token, count, qt, n, n_dim)
    keys = load_tile(k, token, count, kt, n, n_dim)
    values = load_tile(v, token, count, vt, p, p_dim)
    grads = load_tile(dy, token, count, heads * p_dim, p, p_dim)
    kind = keys.dtype
    of_query, of_key = factors(here, first, AFTER)
    reading, read = (queries * of_query).to(kind), (keys * of_key).to(kind)
    scores = tl.dot(reading, tl.trans(read), input_precision=PRECISION)
    scores = seen(scores, queries, keys, own, AFTER, L).to(kind)
    left = (after * tl.exp(second)[:, None]).to(kind)
    to_v = tl.dot(read, left, input_precision=PRECISION)
    to_v = tl.dot(tl.trans(scores), grads, to_v, input_precision=PRECISION)
    store_tile(dv, token, count, heads * p_dim, p, p_dim, to_v)
    to_scores = tl.dot(grads, tl.trans(values), input_precision=PRECISION)
    earlier = i[:, None] >= i[None, :] if AFTER else i[:, None] > i[None, :]
    passed = tl.where(earlier, to_scores, 0.0).to(kind)
    to_q = tl.dot(grads, tl.trans(before), input_precision=PRECISION) * tl.exp(first)[None, :]
    to_q = tl.dot(passed, read, to_q, input_precision=PRECISION)
    to_k = tl.dot(tl.trans(passed), reading, input_precision=PRECISION)
    leaving = tl.dot(values, tl.trans(after), input_precision=PRECISION) * tl.exp(second)[None, :]
    # by the rounded factors, so that what passes between two tokens cancels in sums over both
    by_q, by_left = to_q * reading.to(tl.float32), leaving * read.to(tl.float32)
    local = by_q - to_k * read.to(tl.float32) - by_left
    through = tl.sum(before.to(tl.float32) * after.to(tl.float32), axis=1) * tl.exp(first + second)
    to_g = tl.cumsum(local, axis=0, reverse=True) + (tl.sum(by_left, axis=0) + through)[None, :]
    if not AFTER:
        to_g -= by_q
    store_tile(dg, token, count, heads * n_dim, n, n_dim, to_g)
    to_q, to_k = to_q * of_query, (to_k + leaving) * of_key
    share = tl.zeros((N,), dtype=tl.float32)
    if not AFTER:
        exact, other = queries.to(tl.float32), keys.to(tl.float32)
        diagonal = tl.sum(tl.where(i[:, None] == i[None, :], to_scores, 0.0), axis=1)[:, None]
        to_q += diagonal * other * own[None, :]
        to_k += diagonal * exact * own[None, :]
        share = tl.sum(diagonal * exact * other, axis=0)
    store_tile(dq, token, count, heads * n_dim, n, n_dim, to_q)
    store_tile(dk, token, count, heads * n_dim, n, n_dim, to_k)
    return share


@triton.jit
def _strong_gradients(q, k, v, g, dy, dq, dk, dv, dg, own, before, after, start, count, heads,
                      qt, kt, vt, gt, n_dim, p_dim, AFTER: tl.constexpr, SHORT: tl.constexpr, L: tl.constexpr,
                      N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """The same of any chunk, by short ones from its end; the states before them are computed again."""
    share, slope = tl.zeros((N,), dtype=tl.float32), after.to(tl.float32)
    for number in range(L // SHORT):
        part = L // SHORT - 1 - number
        state = before.to(tl.float32)
        for earlier in range(part):
            state = behind_short(state, k, v, g, start + earlier * SHORT, count, kt, vt, gt, n_dim, p_dim,
                                 AFTER, SHORT, N, P, PRECISION)  # fmt: skip
        of_part, slope = short_gradients(
            q, k, v, g, dy, dq, dk, dv, dg, own, state, slope, start + part * SHORT, count, heads,
            qt, kt, vt, gt, n_dim, p_dim, AFTER, SHORT, N, P, PRECISION)  # fmt: skip
        share += of_part
    return share


@triton.jit(do_not_specialize=COUNTS)
def _gradients(q, k, v, g, bonus, dy, befores, afters, dq, dk, dv, dg, dbonus, count, heads, total,
               qb, qt, qh, kb, kt, kh, vb, vt, vh, gb, gt, gh, n_dim, p_dim, AFTER: tl.constexpr,
               LIMIT: tl.constexpr, SHORT: tl.constexpr,
               L: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """All gradients [B, T, H, ...] of one chunk, contiguous; that of a bonus by this chunk [B H, C, N]."""
    row, chunk = tl.program_id(0), tl.program_id(1)
    batch, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    n, p, start = tl.arange(0, N), tl.arange(0, P), chunk * L
    q += batch * qb + head * qh
    k += batch * kb + head * kh
    v += batch * vb + head * vh
    g += batch * gb + head * gh
    out = batch * count * heads + head
    dy, dv = dy + out * p_dim, dv + out * p_dim
    dq, dk, dg = dq + out * n_dim, dk + out * n_dim, dg + out * n_dim
    own = weights(bonus, head, n, n_dim, AFTER)
    of_chunk = row.to(tl.int64) * total + chunk
    before = load_tile(befores + of_chunk * n_dim * p_dim, n, n_dim, p_dim, p, p_dim)
    after = load_tile(afters + of_chunk * n_dim * p_dim, n, n_dim, p_dim, p, p_dim)
    here, first, second, mild = halves(g, start, count, gt, n, n_dim, LIMIT, L)
    if mild:
        share = _mild_gradients(
            q, k, v, dy, dq, dk, dv, dg, own, before, after, here, first, second, start, count, heads,
            qt, kt, vt, n_dim, p_dim, AFTER, L, N, P, PRECISION)  # fmt: skip
    else:
        share = _strong_gradients(
            q, k, v, g, dy, dq, dk, dv, dg, own, before, after, start, count, heads,
            qt, kt, vt, gt, n_dim, p_dim, AFTER, SHORT, L, N, P, PRECISION)  # fmt: skip
    if not AFTER:
        tl.store(dbonus + of_chunk * n_dim + n, share, mask=n < n_dim)


def _walked(
    plan: Plan, rows: Tensor, columns: Tensor, g: Tensor, state: Tensor | None, *, after: bool, reverse: bool
) -> tuple[Tensor, Tensor]:
    """The states before chunks [B H, C, N, P], or the slopes behind them; and what comes out in the end."""
    read = (*plan.sizes, *steps(rows), *steps(columns), *steps(g), *plan.dims, after, reverse)
    return walked(plan, _states, (rows, columns, g), state, read, launches=WALK, channels=True)


def _plan(q: Tensor, v: Tensor) -> Plan:
    """Chunks are short where those of float32 would need more shared memory than there is."""
    wide = q.dtype is torch.float32 and q.shape[-1] * v.shape[-1] > 64 * 64
    return Plan.in_parts(q, v, SHORT if wide else CHUNK)


def _tiles(plan: Plan, x: Tensor) -> dict[str, Any]:
    """Tiles of a kernel over chunks that may be mild."""
    return {**plan.tiles, "SHORT": SHORT, "LIMIT": LIMITS.get(x.dtype, LIMIT)}


@torch.library.custom_op("nas::channel_decay", mutates_args=())
def channel_decay(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, bonus: Tensor | None, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Outputs, and the last state.

    With a `bonus` [H, N] the memory is read before it fades and is written, else after.
    """
    q, k, v, g, bonus = *map(with_rows, (q, k, v, g)), _whole(bonus)
    plan, after = _plan(q, v), bonus is None
    y, _ = _written(q, k, v, g, bonus, state)
    befores, last = _walked(plan, k, v, g, state, after=after, reverse=False)
    read = (*steps(q), *steps(k), *steps(v), *steps(g), *plan.dims, after)
    arguments = (q, k, v, g, bonus, befores, y, plan.count, plan.heads, plan.total, *read)
    launch(_outputs, plan.over_chunks, arguments, (y,), WIDE if plan.wide else NARROW, **_tiles(plan, q))
    return y, last


@channel_decay.register_fake
def _written(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, bonus: Tensor | None, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    last = v.new_empty(v.shape[0], v.shape[2], q.shape[-1], v.shape[-1], dtype=torch.float32)
    return v.new_empty(v.shape), last


@torch.library.custom_op("nas::channel_decay_back", mutates_args=())
def channel_decay_back(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    bonus: Tensor | None,
    state: Tensor | None,
    dy: Tensor,
    dlast: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, g, the bonus (of no use where there is none), and the first state."""
    q, k, v, g, bonus = *map(with_rows, (q, k, v, g)), _whole(bonus)
    dy, plan, after = dy.contiguous(), _plan(q, v), bonus is None
    dq, dk, dv, dg, dbonus, _ = _written_back(q, k, v, g, bonus, state, dy, dlast)
    befores, _ = _walked(plan, k, v, g, state, after=after, reverse=False)
    afters, dstate = _walked(plan, q, dy, g, dlast, after=after, reverse=True)
    owns = None if after else dg.new_empty(plan.rows, plan.total, plan.n_dim)
    read = (*steps(q), *steps(k), *steps(v), *steps(g), *plan.dims, after)
    sizes = (plan.count, plan.heads, plan.total)
    arguments = (q, k, v, g, bonus, dy, befores, afters, dq, dk, dv, dg, owns, *sizes, *read)
    ways = WIDE_BACK if plan.wide else NARROW_BACK
    launch(_gradients, plan.over_chunks, arguments, (dq, dk, dv, dg), ways, **_tiles(plan, q))
    if owns is not None:
        dbonus = owns.unflatten(0, (plan.batch, plan.heads)).sum((0, 2))
    return dq, dk, dv, dg, dbonus, dstate


@channel_decay_back.register_fake
def _written_back(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    bonus: Tensor | None,
    state: Tensor | None,
    dy: Tensor,
    dlast: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    dq, dk, dv = unwritten(q, k, v)
    (dg,) = unwritten(g, dtype=torch.float32)
    dstate = dg.new_empty(v.shape[0], v.shape[2], q.shape[-1], v.shape[-1])
    return dq, dk, dv, dg, dg.new_empty(*q.shape[2:] if bonus is not None else (0,)), dstate


def _whole(bonus: Tensor | None) -> Tensor | None:
    return None if bonus is None else bonus.contiguous()


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)  # where the last state is not used, there is nothing to add
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, dy: Tensor | None, dlast: Tensor | None) -> tuple[Tensor | None, ...]:
    *inputs, bonus, state = ctx.saved_tensors
    dy = torch.zeros_like(inputs[2]) if dy is None else dy
    *found, dbonus, dstate = channel_decay_back(*inputs, bonus, state, dy, dlast)
    return *found, None if bonus is None else dbonus, None if state is None else dstate


channel_decay.register_autograd(_backward, setup_context=_save)


def errors(
    device: torch.device, dtype: torch.dtype = torch.bfloat16, n_dim: int = 64, p_dim: int = 64
) -> dict[str, float]:
    """Relative errors in a dtype against the recurrence in float64, for tiles of [N, P] that are not full."""
    p_dim = 3 * p_dim // 4
    dice = Dice(device)

    inputs = {
        "q": (dice.normal(2, COUNT, 3, n_dim) / n_dim**0.5).to(dtype),
        "k": dice.normal(2, COUNT, 3, n_dim).to(dtype),
        "v": dice.normal(2, COUNT, 3, p_dim).to(dtype),
        "g": -0.3 * dice.uniform(2, COUNT, 3, n_dim),
        "state": dice.normal(2, 3, n_dim, p_dim),
    }
    inputs["g"][:, CHUNK : 2 * CHUNK, 1:] *= 30  # not mild
    found = relative_errors(_read, lambda *x: gated_attention_plainly(*x), inputs)
    inputs["bonus"] = dice.normal(3, n_dim)
    before = relative_errors(_read, lambda *x: gated_attention_plainly(*x[:5], bonus=x[5]), inputs)
    return found | {f"{name} with a bonus": error for name, error in before.items()}


def _read(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, state: Tensor, bonus: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    y, last = channel_decay(q, k, v, g, bonus, state)
    return y, last
