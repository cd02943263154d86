"""Pieces of the kernels of `gated_attention`: decays of a chunk, and chunks short enough for strong ones.

Shapes: N state_dim, P head_dim, L chunk length.
"""

from __future__ import annotations

import triton
import triton.language as tl

from search_spaces.ops.kernels.tiles import load_tile, store_tile


@triton.jit
def halves(g, start, count, gt, n, n_dim, LIMIT: tl.constexpr, L: tl.constexpr):
    """Decays of a chunk [L, N], their sums over its halves [N], and whether these are within `LIMIT`."""
    i = tl.arange(0, L)
    here = load_tile(g, start + i, count, gt, n, n_dim).to(tl.float32)
    first = tl.sum(tl.where((i < L // 2)[:, None], here, 0.0), axis=0)
    second = tl.sum(tl.where((i < L // 2)[:, None], 0.0, here), axis=0)
    return here, first, second, tl.min(tl.minimum(first, second), axis=0) >= -LIMIT


@triton.jit
def factors(here, first, AFTER: tl.constexpr):
    """How a query and a key of a mild chunk fade against its middle [L, N]: their product is what passes."""
    sums = tl.cumsum(here, axis=0)
    read = sums if AFTER else sums - here
    return tl.exp(read - first[None, :]), tl.exp(first[None, :] - sums)


@triton.jit
def seen(scores, queries, keys, own, AFTER: tl.constexpr, L: tl.constexpr):
    """Scores of a mild chunk [L, L] of those tokens that are seen; what a token reads of itself by `own`."""
    i = tl.arange(0, L)
    if AFTER:
        kept = tl.where(i[:, None] >= i[None, :], scores, 0.0)
    else:
        products = queries.to(tl.float32) * keys.to(tl.float32) * own[None, :]
        kept = tl.where(i[:, None] > i[None, :], scores, 0.0)
        kept = tl.where(i[:, None] == i[None, :], tl.sum(products, axis=1)[:, None], kept)
    return kept


@triton.jit
def fades(g, start, count, gt, n, n_dim, AFTER: tl.constexpr, L: tl.constexpr):
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
def following(state, whole, rows, columns, PRECISION: tl.constexpr):
    """A state [N, P] behind a chunk: it fades, and products of rows [L, N] with columns [L, P] are added."""
    return tl.dot(tl.trans(rows), columns, state * tl.exp(whole)[:, None], input_precision=PRECISION)


@triton.jit
def earlier_key(k, g, fade, start, j, count, kt, gt, n, n_dim, AFTER: tl.constexpr, L: tl.constexpr):
    """The key of token j, and logarithms of what later tokens keep of it; `fade` is that of token j + 1."""
    i = tl.arange(0, L)
    decay = tl.load(g + (start + j + 1).to(tl.int64) * gt + n,
                    mask=(n < n_dim) & (start + j + 1 < count), other=0.0).to(tl.float32)  # fmt: skip
    key = tl.load(k + (start + j).to(tl.int64) * kt + n,
                  mask=(n < n_dim) & (start + j < count), other=0.0).to(tl.float32)  # fmt: skip
    reads = i > j if AFTER else i > j + 1
    return key, fade + tl.where(reads[:, None], decay[None, :], 0.0)


@triton.jit
def weights(bonus, head, n, n_dim, AFTER: tl.constexpr):
    """What a token reads of its own key, by channel [N]: all of it, or the bonus of its head."""
    if AFTER:
        weights = tl.where(n < n_dim, 1.0, 0.0)
    else:
        weights = tl.load(bonus + head * n_dim + n, mask=n < n_dim, other=0.0).to(tl.float32)
    return weights


@triton.jit
def pairs(to_scores, queries, keys, own, k, g, start, count, kt, gt, n, n_dim,
           AFTER: tl.constexpr, LEARNS: tl.constexpr, L: tl.constexpr):  # fmt: skip
    """What token i reads of token j <= i of a short chunk [L, L]; `own` [N] weighs what it reads of itself.

    Where it `LEARNS`, also gradients [L, N] of queries and keys by what later tokens read of earlier ones.
    """
    i = tl.arange(0, L)
    diagonal = tl.sum(queries * keys * own[None, :], axis=1)
    scores = tl.where(i[:, None] == i[None, :], diagonal[:, None], 0.0)
    to_q = tl.zeros(queries.shape, dtype=tl.float32)
    to_k = tl.zeros(queries.shape, dtype=tl.float32)
    fade = tl.zeros(queries.shape, dtype=tl.float32)
    for number in range(1, L):
        j = L - 1 - number
        key, fade = earlier_key(k, g, fade, start, j, count, kt, gt, n, n_dim, AFTER, L)
        faded, reads = tl.exp(fade), (i[None, :] == j) & (i > j)[:, None]
        column = tl.sum(queries * key[None, :] * faded, axis=1)
        scores = tl.where(reads, column[:, None], scores)
        if LEARNS:
            passed = tl.sum(tl.where(reads, to_scores, 0.0), axis=1)[:, None] * faded
            to_q += passed * key[None, :]
            to_k = tl.where((i == j)[:, None], tl.sum(passed * queries, axis=0)[None, :], to_k)
    return scores, to_q, to_k


@triton.jit
def behind_short(state, k, v, g, start, count, kt, vt, gt, n_dim, p_dim, AFTER: tl.constexpr,
                 L: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """The state behind a short chunk."""
    n, p, token = tl.arange(0, N), tl.arange(0, P), start + tl.arange(0, L)
    keys = load_tile(k, token, count, kt, n, n_dim)
    values = load_tile(v, token, count, vt, p, p_dim)
    _read, left, whole = fades(g, start, count, gt, n, n_dim, AFTER, L)
    return following(state, whole, (keys * tl.exp(left)).to(keys.dtype), values, PRECISION)


@triton.jit
def short_gradients(q, k, v, g, dy, dq, dk, dv, dg, own, state, slope, start, count, heads,
                     qt, kt, vt, gt, n_dim, p_dim, AFTER: tl.constexpr,
                     L: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Gradients of a short chunk, written; its share of that of the bonus, and the slope before it."""
    i, n, p = tl.arange(0, L), tl.arange(0, N), tl.arange(0, P)
    token = start + i
    queries = load_tile(q, token, count, qt, n, n_dim)
    keys = load_tile(k, token, count, kt, n, n_dim)
    values = load_tile(v, token, count, vt, p, p_dim)
    grads = load_tile(dy, token, count, heads * p_dim, p, p_dim)
    read, left, whole = fades(g, start, count, gt, n, n_dim, AFTER, L)
    exact, other = queries.to(tl.float32), keys.to(tl.float32)
    before, after = state.to(keys.dtype), slope.to(keys.dtype)
    to_scores = tl.dot(grads, tl.trans(values), input_precision=PRECISION)
    scores, to_q, to_k = pairs(to_scores, exact, other, own, k, g, start, count, kt, gt, n, n_dim,
                                AFTER, True, L)  # fmt: skip
    to_v = tl.dot((keys * tl.exp(left)).to(keys.dtype), after, input_precision=PRECISION)
    to_v = tl.dot(tl.trans(scores.to(grads.dtype)), grads, to_v, input_precision=PRECISION)
    store_tile(dv, token, count, heads * p_dim, p, p_dim, to_v)
    to_q += tl.dot(grads, tl.trans(before), input_precision=PRECISION) * tl.exp(read)
    leaving = tl.dot(values, tl.trans(after), input_precision=PRECISION) * tl.exp(left)
    by_q, by_left = to_q * exact, leaving * other
    local = by_q - to_k * other - by_left
    through = tl.sum(state * slope, axis=1) * tl.exp(whole)
    to_g = tl.cumsum(local, axis=0, reverse=True) + (tl.sum(by_left, axis=0) + through)[None, :]
    if not AFTER:
        to_g -= by_q
    store_tile(dg, token, count, heads * n_dim, n, n_dim, to_g)
    # what a token reads of itself does not fade
    diagonal = tl.sum(tl.where(i[:, None] == i[None, :], to_scores, 0.0), axis=1)[:, None]
    store_tile(dq, token, count, heads * n_dim, n, n_dim, to_q + diagonal * other * own[None, :])
    to_k += leaving + diagonal * exact * own[None, :]
    store_tile(dk, token, count, heads * n_dim, n, n_dim, to_k)
    reading = (queries * tl.exp(read)).to(queries.dtype)
    return tl.sum(diagonal * exact * other, axis=0), following(slope, whole, reading, grads, PRECISION)
