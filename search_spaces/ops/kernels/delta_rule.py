"""The delta rule, plain or with a decay, as Triton kernels: forward and backward.

See `search_spaces.ops.delta_rule` for the recurrence and the WY form of a chunk. With T the inverse of a
chunk's unit triangular system, U = T (b v), W = T (b exp(G) k), and S the state before the chunk,

    u = U - W S        y = exp(G) q S + (q k' * fade) u        S_next = exp(G_L) S + (exp(G_L - G) k)' u

1. every chunk's inverse, all chunks at once; 2. what each segment of chunks does to a state, which is linear:
a matrix M and what it adds; 3. states carried over segments; 4. outputs, each segment from its state. The
gradient goes the same way backwards: slopes of states pass a segment by M'. States and slopes at the borders
of chunks are written in the inputs' dtype, and then all gradients follow, all chunks at once.

Shapes: B batch, T tokens, H heads, N state_dim, P head_dim, S segments, C chunks, L chunk length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from search_spaces.ops.delta_rule import delta_rule_plainly
from search_spaces.ops.kernels.segments import PROGRAMS, of_segments
from search_spaces.ops.kernels.segments import Plan as Segments
from search_spaces.ops.kernels.tiles import (
    CHUNK,
    COUNTS,
    ROWS,
    Dice,
    kept,
    load_row,
    load_tile,
    padded,
    relative_errors,
    steps,
    store_tile,
    unwritten,
    with_rows,
)
from search_spaces.ops.kernels.tuning import Launch, launch
from search_spaces.ops.kernels.unit_triangular import inverses_of

TOLERANCE = 3e-2
NARROW, NARROW_BACK = (Launch(4), Launch(8), Launch(4, 1)), (Launch(4, 1), Launch(8, 1))
WIDE, WIDE_BACK = (Launch(8), Launch(8, 1), Launch(4, 1)), (Launch(8, 1), Launch(16, 1))


@triton.jit
def _square(base, L: tl.constexpr):
    i = tl.arange(0, L)
    return tl.load(base + i[:, None] * L + i[None, :])


@triton.jit
def _erasing(keys, gate, sums, inverse, PRECISION: tl.constexpr):
    """W [L, N]: what the state before the chunk takes off the corrections."""
    erased = (keys * (gate * tl.exp(sums))[:, None]).to(inverse.dtype)
    return tl.dot(inverse, erased, input_precision=PRECISION).to(keys.dtype)


@triton.jit(do_not_specialize=COUNTS + ROWS)
def _segment_maps(k, v, b, g, inverses, results, count, heads, chunks, segments, total,
                  kb, kt, kh, vb, vt, vh, bb, bt, bh, gb, gt, gh, n_dim, p_dim,
                  L: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr,
                  MAPS: tl.constexpr):  # fmt: skip
    """What each segment adds to a state [B H, S, N, P]; where MAPS, the segment's matrix [B H, S, N, N]."""
    row, segment = tl.program_id(0), tl.program_id(1)
    batch, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    n, p = tl.arange(0, N), tl.arange(0, P)
    k += batch * kb + head * kh
    v += batch * vb + head * vh
    b += batch * bb + head * bh
    g += batch * gb + head * gh
    if MAPS:  # noqa: SIM108  # a branch that is decided while compiling
        state = tl.where(n[:, None] == p[None, :], 1.0, 0.0)
    else:
        state = tl.zeros((N, P), dtype=tl.float32)
    for chunk in range(segment * chunks, tl.minimum(segment * chunks + chunks, total)):
        token = chunk * L + tl.arange(0, L)
        keys = load_tile(k, token, count, kt, n, n_dim)
        gate, decay = load_row(b, token, count, bt), load_row(g, token, count, gt)
        sums, whole = tl.cumsum(decay, axis=0), tl.sum(decay, axis=0)
        inverse = _square(inverses + (row.to(tl.int64) * total + chunk) * L * L, L)
        w = _erasing(keys, gate, sums, inverse, PRECISION)
        u = -tl.dot(w, state.to(keys.dtype), input_precision=PRECISION)
        if not MAPS:
            values = load_tile(v, token, count, vt, p, p_dim)
            u += tl.dot(inverse, (values * gate[:, None]).to(inverse.dtype), input_precision=PRECISION)
        left = (keys * tl.exp(whole - sums)[:, None]).to(keys.dtype)
        state = state * tl.exp(whole) + tl.dot(tl.trans(left), u.to(keys.dtype), input_precision=PRECISION)
    width = n_dim if MAPS else p_dim
    where = (row.to(tl.int64) * segments + segment) * n_dim * width
    store_tile(results + where, n, n_dim, width, p, width, state)


@triton.jit(do_not_specialize=COUNTS + ROWS)
def _carry(states, maps, first, last, segments, n_dim, p_dim,
           N: tl.constexpr, P: tl.constexpr, REVERSE: tl.constexpr):  # fmt: skip
    """In place: what each segment adds becomes the state it starts from; slopes pass by the transposes."""
    row = tl.program_id(0).to(tl.int64)
    n, m, p = tl.arange(0, N), tl.arange(0, N), tl.program_id(1) * P + tl.arange(0, P)
    if first is not None:
        state = load_tile(first + row * n_dim * p_dim, n, n_dim, p_dim, p, p_dim).to(tl.float32)
    else:
        state = tl.zeros((N, P), dtype=tl.float32)
    for j in range(segments):
        segment = segments - 1 - j if REVERSE else j
        where = states + (row * segments + segment) * n_dim * p_dim
        added = load_tile(where, n, n_dim, p_dim, p, p_dim)
        store_tile(where, n, n_dim, p_dim, p, p_dim, state)
        matrix = load_tile(maps + (row * segments + segment) * n_dim * n_dim, n, n_dim, n_dim, m, n_dim)
        if REVERSE:
            matrix = tl.trans(matrix)
        # few and small, so as exact as float32
        state = tl.dot(matrix, state, added, input_precision="tf32x3")
    store_tile(last + row * n_dim * p_dim, n, n_dim, p_dim, p, p_dim, state)


@triton.jit(do_not_specialize=COUNTS + ROWS)
def _outputs(q, k, v, b, g, inverses, states, results, count, heads, chunks, segments, total,
             qb, qt, qh, kb, kt, kh, vb, vt, vh, bb, bt, bh, gb, gt, gh, n_dim, p_dim,
             L: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr,
             STATES: tl.constexpr):  # fmt: skip
    """Outputs [B, T, H, P], contiguous; where STATES, the state before every chunk [B H, C, N, P] instead."""
    row, segment = tl.program_id(0), tl.program_id(1)
    batch, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    n, p = tl.arange(0, N), tl.arange(0, P)
    q += batch * qb + head * qh
    k += batch * kb + head * kh
    v += batch * vb + head * vh
    b += batch * bb + head * bh
    g += batch * gb + head * gh
    where = (row.to(tl.int64) * segments + segment) * n_dim * p_dim
    state = load_tile(states + where, n, n_dim, p_dim, p, p_dim)
    for chunk in range(segment * chunks, tl.minimum(segment * chunks + chunks, total)):
        if STATES:
            where = (row.to(tl.int64) * total + chunk) * n_dim * p_dim
            store_tile(results + where, n, n_dim, p_dim, p, p_dim, state)
        token = chunk * L + tl.arange(0, L)
        keys = load_tile(k, token, count, kt, n, n_dim)
        values = load_tile(v, token, count, vt, p, p_dim)
        gate, decay = load_row(b, token, count, bt), load_row(g, token, count, gt)
        sums, whole = tl.cumsum(decay, axis=0), tl.sum(decay, axis=0)
        inverse = _square(inverses + (row.to(tl.int64) * total + chunk) * L * L, L)
        low = state.to(keys.dtype)
        u = tl.dot(inverse, (values * gate[:, None]).to(inverse.dtype), input_precision=PRECISION)
        u -= tl.dot(_erasing(keys, gate, sums, inverse, PRECISION), low, input_precision=PRECISION)
        written = u.to(keys.dtype)
        if not STATES:
            queries = load_tile(q, token, count, qt, n, n_dim)
            scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * kept(sums, L)
            out = tl.dot(queries, low, input_precision=PRECISION) * tl.exp(sums)[:, None]
            out = tl.dot(scores.to(keys.dtype), written, out, input_precision=PRECISION)
            where = (batch * count * heads + head) * p_dim
            store_tile(results + where, token, count, heads * p_dim, p, p_dim, out)
        left = (keys * tl.exp(whole - sums)[:, None]).to(keys.dtype)
        state = state * tl.exp(whole) + tl.dot(tl.trans(left), written, input_precision=PRECISION)


@triton.jit(do_not_specialize=COUNTS + ROWS)
def _slopes(q, k, b, g, dy, inverses, slopes, afters, count, heads, chunks, segments, total,
            qb, qt, qh, kb, kt, kh, bb, bt, bh, gb, gt, gh, n_dim, p_dim,
            L: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr,
            CHUNKS: tl.constexpr):  # fmt: skip
    """The slope of the state before each segment by the segment's outputs alone [B H, S, N, P].

    Where CHUNKS, `slopes` holds the slopes of the states after the segments, and what is written is the slope
    of the state after every chunk [B H, C, N, P], to `afters`.
    """
    row, segment = tl.program_id(0), tl.program_id(1)
    batch, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    n, p = tl.arange(0, N), tl.arange(0, P)
    q += batch * qb + head * qh
    k += batch * kb + head * kh
    b += batch * bb + head * bh
    g += batch * gb + head * gh
    dy += (batch * count * heads + head) * p_dim
    own = slopes + (row.to(tl.int64) * segments + segment) * n_dim * p_dim
    if CHUNKS:  # noqa: SIM108  # a branch that is decided while compiling
        slope = load_tile(own, n, n_dim, p_dim, p, p_dim)
    else:
        slope = tl.zeros((N, P), dtype=tl.float32)
    end = tl.minimum(segment * chunks + chunks, total)
    for number in range(end - segment * chunks):
        chunk = end - 1 - number
        if CHUNKS:
            where = (row.to(tl.int64) * total + chunk) * n_dim * p_dim
            store_tile(afters + where, n, n_dim, p_dim, p, p_dim, slope)
        token = chunk * L + tl.arange(0, L)
        queries = load_tile(q, token, count, qt, n, n_dim)
        keys = load_tile(k, token, count, kt, n, n_dim)
        grads = load_tile(dy, token, count, heads * p_dim, p, p_dim)
        gate, decay = load_row(b, token, count, bt), load_row(g, token, count, gt)
        sums, whole = tl.cumsum(decay, axis=0), tl.sum(decay, axis=0)
        inverse = _square(inverses + (row.to(tl.int64) * total + chunk) * L * L, L)
        w = _erasing(keys, gate, sums, inverse, PRECISION)
        scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * kept(sums, L)
        left = (keys * tl.exp(whole - sums)[:, None]).to(keys.dtype)
        to_u = tl.dot(left, slope.to(keys.dtype), input_precision=PRECISION)
        to_u = tl.dot(tl.trans(scores.to(keys.dtype)), grads, to_u, input_precision=PRECISION)
        reading = (queries * tl.exp(sums)[:, None]).to(keys.dtype)
        slope = slope * tl.exp(whole) + tl.dot(tl.trans(reading), grads, input_precision=PRECISION)
        slope -= tl.dot(tl.trans(w), to_u.to(keys.dtype), input_precision=PRECISION)
    if not CHUNKS:
        store_tile(own, n, n_dim, p_dim, p, p_dim, slope)


@triton.jit
def _system_gradient(inverse, to_inverse, keys, gate, sums, L: tl.constexpr, PRECISION: tl.constexpr):
    """From the gradient of a chunk's inverse: that of keys [L, N], and what gates and decays get [L] each."""
    kind = keys.dtype
    i = tl.arange(0, L)
    slope = tl.dot(to_inverse.to(kind), tl.trans(inverse), input_precision=PRECISION)
    slope = -tl.dot(tl.trans(inverse), slope.to(kind), input_precision=PRECISION)
    below = tl.where(i[:, None] > i[None, :], kept(sums, L) * slope, 0.0)
    products = tl.dot(keys, tl.trans(keys), input_precision=PRECISION) * below
    moved = products * gate[:, None]
    weighted = (below * gate[:, None]).to(kind)
    to_k = tl.dot(weighted, keys, input_precision=PRECISION)
    to_k = tl.dot(tl.trans(weighted), keys, to_k, input_precision=PRECISION)
    return to_k, tl.sum(products, axis=1), tl.sum(moved, axis=1) - tl.sum(moved, axis=0)


@triton.jit(do_not_specialize=COUNTS + ROWS)
def _gradients(q, k, v, b, g, dy, inverses, befores, afters, dq, dk, dv, db, dg, count, heads, total,
               qb, qt, qh, kb, kt, kh, vb, vt, vh, bb, bt, bh, gb, gt, gh, n_dim, p_dim,
               L: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """All gradients [B, T, H, ...], contiguous, of one chunk."""
    row, chunk = tl.program_id(0), tl.program_id(1)
    batch, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    n, p = tl.arange(0, N), tl.arange(0, P)
    token, out = chunk * L + tl.arange(0, L), batch * count * heads + head
    queries = load_tile(q + batch * qb + head * qh, token, count, qt, n, n_dim)
    keys = load_tile(k + batch * kb + head * kh, token, count, kt, n, n_dim)
    values = load_tile(v + batch * vb + head * vh, token, count, vt, p, p_dim)
    grads = load_tile(dy + out * p_dim, token, count, heads * p_dim, p, p_dim)
    gate = load_row(b + batch * bb + head * bh, token, count, bt)
    decay = load_row(g + batch * gb + head * gh, token, count, gt)
    sums, whole = tl.cumsum(decay, axis=0), tl.sum(decay, axis=0)
    entered, left, fade = tl.exp(sums), tl.exp(whole - sums), kept(sums, L)
    kind = keys.dtype
    inverse = _square(inverses + (row.to(tl.int64) * total + chunk) * L * L, L)
    where = (row.to(tl.int64) * total + chunk) * n_dim * p_dim
    before = load_tile(befores + where, n, n_dim, p_dim, p, p_dim)
    after = load_tile(afters + where, n, n_dim, p_dim, p, p_dim)
    gated = (values * gate[:, None]).to(kind)
    u = tl.dot(inverse, gated, input_precision=PRECISION)
    w = _erasing(keys, gate, sums, inverse, PRECISION)
    u = (u - tl.dot(w, before, input_precision=PRECISION)).to(kind)
    scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * fade
    to_scores = tl.dot(grads, tl.trans(u), input_precision=PRECISION)
    passed = scores * to_scores
    to_scores = (to_scores * fade).to(kind)
    to_u = tl.dot((keys * left[:, None]).to(kind), after, input_precision=PRECISION)
    to_u = tl.dot(tl.trans(scores.to(kind)), grads, to_u, input_precision=PRECISION).to(kind)
    to_q = tl.dot(grads, tl.trans(before), input_precision=PRECISION) * entered[:, None]
    local = tl.sum(to_q * queries.to(tl.float32), axis=1) + tl.sum(passed, axis=1) - tl.sum(passed, axis=0)
    to_q = tl.dot(to_scores, keys, to_q, input_precision=PRECISION)
    store_tile(dq + out * n_dim, token, count, heads * n_dim, n, n_dim, to_q)
    to_k = tl.dot(u, tl.trans(after), input_precision=PRECISION) * left[:, None]
    by_left = tl.sum(to_k * keys.to(tl.float32), axis=1)
    to_k = tl.dot(tl.trans(to_scores), queries, to_k, input_precision=PRECISION)
    to_values = tl.dot(tl.trans(inverse), to_u, input_precision=PRECISION)
    store_tile(dv + out * p_dim, token, count, heads * p_dim, p, p_dim, to_values * gate[:, None])
    to_w = -tl.dot(to_u, tl.trans(before), input_precision=PRECISION)
    to_erased = tl.dot(tl.trans(inverse), to_w.to(kind), input_precision=PRECISION)
    by_erased = tl.sum(to_erased * keys.to(tl.float32), axis=1) * entered
    to_k += to_erased * (gate * entered)[:, None]
    to_inverse = tl.dot(to_u, tl.trans(gated), input_precision=PRECISION)
    erased = (keys * (gate * entered)[:, None]).to(kind)
    to_inverse = tl.dot(to_w.to(kind), tl.trans(erased), to_inverse, input_precision=PRECISION)
    by_system = _system_gradient(inverse, to_inverse, keys, gate, sums, L, PRECISION)
    store_tile(dk + out * n_dim, token, count, heads * n_dim, n, n_dim, to_k + by_system[0])
    to_gate = tl.sum(to_values * values.to(tl.float32), axis=1) + by_erased + by_system[1]
    at, inside = out + token.to(tl.int64) * heads, token < count
    tl.store(db + at, to_gate.to(db.dtype.element_ty), mask=inside)
    local += by_erased * gate - by_left + by_system[2]
    through = tl.sum(tl.sum(before.to(tl.float32) * after.to(tl.float32), axis=1), axis=0) * tl.exp(whole)
    to_g = tl.cumsum(local, axis=0, reverse=True) + tl.sum(by_left, axis=0) + through
    tl.store(dg + at, to_g, mask=inside)


@dataclass(frozen=True)
class Plan:
    """How one call is cut into programs."""

    segments: Segments
    total: int

    @classmethod
    def of(cls, q: Tensor, v: Tensor) -> Plan:
        """For q [B, T, H, N] and v [B, T, H, P]."""
        cut = Segments.of(q, v, shortest=8, programs=PROGRAMS // 2)
        return cls(cut, triton.cdiv(cut.count, CHUNK))

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """What kernels over segments are told of the cut."""
        return (*self.segments.sizes, self.total)


def _over_segments(
    states: Tensor, maps: Tensor, first: Tensor | None, last: Tensor, *, reverse: bool
) -> None:
    """Carry states [B H, S, N, P] over segments in place, from `first` [B, H, N, P], if any, to `last`."""
    rows, segments, n_dim, p_dim = states.shape
    _carry[(rows, triton.cdiv(p_dim, 16))](
        states, maps, None if first is None else first.contiguous(), last, segments, n_dim, p_dim,
        N=padded(n_dim), P=16, REVERSE=reverse, num_warps=4,
    )  # fmt: skip


@torch.library.custom_op("nas::delta_rule", mutates_args=())
def delta_rule(
    q: Tensor, k: Tensor, v: Tensor, b: Tensor, g: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Outputs, the last state, and for the gradient the inverses, and the states and maps of segments."""
    q, k, v = with_rows(q), with_rows(k), with_rows(v)
    plan = Plan.of(q, v)
    cut = plan.segments
    y, last, inverses, states, maps = _written(q, k, v, b, g, state)
    inverses_of[(cut.rows, plan.total)](
        k, b, g, inverses, cut.count, cut.heads, *steps(k), *steps(b), *steps(g), cut.n_dim,
        L=CHUNK, N=cut.tiles["N"], PRECISION=cut.tiles["PRECISION"], num_warps=1,
    )  # fmt: skip
    read = (*steps(k), *steps(v), *steps(b), *steps(g), *cut.dims)
    warps = {"num_warps": 8 if cut.wide else 4}
    _segment_maps[cut.grid](
        k, v, b, g, inverses, states, *plan.sizes, *read, **cut.tiles, **warps, MAPS=False
    )
    square = {**cut.tiles, **warps, "P": cut.tiles["N"]}
    _segment_maps[cut.grid](k, v, b, g, inverses, maps, *plan.sizes, *read, **square, MAPS=True)
    _over_segments(states, maps, state, last, reverse=False)
    arguments = (q, k, v, b, g, inverses, states, y, *plan.sizes, *steps(q), *read)
    launch(_outputs, cut.grid, arguments, (y,), WIDE if cut.wide else NARROW, **cut.tiles, STATES=False)
    return y, last, inverses, states, maps


@delta_rule.register_fake
def _written(
    q: Tensor, k: Tensor, v: Tensor, b: Tensor, g: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    plan = Plan.of(q, v)
    cut = plan.segments
    y, states = v.new_empty(v.shape), of_segments(cut, v, channels=False)[0]
    last = states.new_empty(cut.batch, cut.heads, *cut.dims)
    inverses = v.new_empty(cut.rows, plan.total, CHUNK, CHUNK)
    return y, last, inverses, states, states.new_empty(cut.rows, cut.segments, cut.n_dim, cut.n_dim)


@torch.library.custom_op("nas::delta_rule_back", mutates_args=())
def delta_rule_back(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    b: Tensor,
    g: Tensor,
    inverses: Tensor,
    states: Tensor,
    maps: Tensor,
    dy: Tensor,
    dlast: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, b, g and of the first state."""
    q, k, v, dy = with_rows(q), with_rows(k), with_rows(v), dy.contiguous()
    plan = Plan.of(q, v)
    cut = plan.segments
    found = dq, dk, dv, db, dg, dstate = _written_back(q, k, v, b, g, inverses, states, maps, dy, dlast)
    read = (*steps(k), *steps(v), *steps(b), *steps(g), *cut.dims)
    befores = v.new_empty(cut.rows, plan.total, *cut.dims)
    tiles = {**cut.tiles, "num_warps": 8 if cut.wide else 4}
    _outputs[cut.grid](
        q, k, v, b, g, inverses, states, befores, *plan.sizes, *steps(q), *read, **tiles, STATES=True
    )
    slopes, afters = torch.empty_like(states), torch.empty_like(befores)
    sloping = (*plan.sizes, *steps(q), *steps(k), *steps(b), *steps(g), *cut.dims)
    _slopes[cut.grid](q, k, b, g, dy, inverses, slopes, afters, *sloping, **tiles, CHUNKS=False)
    _over_segments(slopes, maps, dlast, dstate, reverse=True)
    _slopes[cut.grid](q, k, b, g, dy, inverses, slopes, afters, *sloping, **tiles, CHUNKS=True)
    arguments = (
        q, k, v, b, g, dy, inverses, befores, afters, dq, dk, dv, db, dg, cut.count, cut.heads, plan.total,
        *steps(q), *read,
    )  # fmt: skip
    ways = WIDE_BACK if cut.wide else NARROW_BACK
    launch(_gradients, (cut.rows, plan.total), arguments, found[:5], ways, **cut.tiles)
    return found


@delta_rule_back.register_fake
def _written_back(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    b: Tensor,
    g: Tensor,
    inverses: Tensor,
    states: Tensor,
    maps: Tensor,
    dy: Tensor,
    dlast: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    dq, dk, dv, db = unwritten(q, k, v, b)
    (dg,) = unwritten(g, dtype=torch.float32)
    dstate = dg.new_empty(v.shape[0], v.shape[2], q.shape[-1], v.shape[-1])
    return dq, dk, dv, db, dg, dstate


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)  # where the last state is not used, there is nothing to add
    ctx.starts = inputs[5] is not None
    ctx.save_for_backward(*inputs[:5], *output[2:])


def _backward(ctx: Any, dy: Tensor | None, dlast: Tensor | None, *rest: None) -> tuple[Tensor | None, ...]:
    dy = torch.zeros_like(ctx.saved_tensors[2]) if dy is None else dy
    *found, dstate = delta_rule_back(*ctx.saved_tensors, dy, dlast)
    return *found, dstate if ctx.starts else None


delta_rule.register_autograd(_backward, setup_context=_save)


def errors(
    device: torch.device, dtype: torch.dtype = torch.bfloat16, n_dim: int = 64, p_dim: int = 64
) -> dict[str, float]:
    """Relative errors in a dtype against the recurrence in float64, for tiles of [N, P] that are not full."""
    p_dim = 3 * p_dim // 4
    dice = Dice(device)

    inputs = {
        "q": (dice.normal(2, 67, 3, n_dim) / n_dim**0.5).to(dtype),
        "k": F.normalize(dice.normal(2, 67, 3, n_dim), dim=-1).to(dtype),
        "v": dice.normal(2, 67, 3, p_dim).to(dtype),
        "b": dice.uniform(2, 67, 3).to(dtype),
        "g": -0.1 * dice.uniform(2, 67, 3),
        "state": dice.normal(2, 3, n_dim, p_dim),
    }

    def plain(*parts: Tensor) -> tuple[Tensor, Tensor]:
        return delta_rule_plainly(*parts[:5], state=parts[5])

    return relative_errors(lambda *x: delta_rule(*x)[:2], plain, inputs)
