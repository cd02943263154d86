"""Inverses of the unit triangular systems of the delta rule's chunks, as a Triton kernel.

    (I + A) T = I        A_ij = b_i exp(G_i - G_j) (k_i . k_j) for i > j

By forward substitution within blocks of a quarter, and block products below them (as flash-linear-attention
does it): powers of A, which would be faster, cancel catastrophically where keys repeat.

Shapes: B batch, T tokens, H heads, N state_dim, C chunks, L chunk length, Q a quarter of it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from search_spaces.ops.kernels.tiles import COUNTS, ROWS, load_row, load_tile


@triton.jit
def _keys_of(k, g, token, count, kt, gt, before, n, n_dim):
    """Keys [Q, N] of a quarter of a chunk, and the running sums of its decays, after the sum `before`."""
    keys = load_tile(k, token, count, kt, n, n_dim)
    decay = load_row(g, token, count, gt)
    return keys, before + tl.cumsum(decay, axis=0), before + tl.sum(decay, axis=0)


@triton.jit
def _below(keys, sums, gate, others, other_sums, PRECISION: tl.constexpr):
    """A block of a system: rows of later tokens, columns of earlier ones."""
    ages = tl.exp(tl.minimum(sums[:, None] - other_sums[None, :], 0.0))
    return tl.dot(keys, tl.trans(others), input_precision=PRECISION) * ages * gate[:, None]


@triton.jit
def _inverse(block, Q: tl.constexpr):
    """The inverse of a unit triangular block, given what is below its diagonal, row by row."""
    r = tl.arange(0, Q)
    inverse = tl.where(r[:, None] > r[None, :], -block, 0.0)
    for i in range(1, Q):
        own = tl.sum(tl.where(r[:, None] == i, inverse, 0.0), axis=0)
        own += tl.sum(own[:, None] * inverse, axis=0)
        inverse = tl.where(r[:, None] == i, own[None, :], inverse)
    return inverse + tl.where(r[:, None] == r[None, :], 1.0, 0.0)


@triton.jit
def _times(a, b):
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def _put_row(base, i, b0, b1, b2, b3, L: tl.constexpr, Q: tl.constexpr):
    """Write the four blocks of a row of blocks of an L x L matrix."""
    r = tl.arange(0, Q)
    at = base + (i * Q + r)[:, None] * L + r[None, :]
    tl.store(at, b0.to(base.dtype.element_ty))
    tl.store(at + Q, b1.to(base.dtype.element_ty))
    tl.store(at + 2 * Q, b2.to(base.dtype.element_ty))
    tl.store(at + 3 * Q, b3.to(base.dtype.element_ty))


@triton.jit(do_not_specialize=COUNTS + ROWS)
def inverses_of(k, b, g, inverses, count, heads, kb, kt, kh, bb, bt, bh, gb, gt, gh, n_dim,
                L: tl.constexpr, N: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """The inverse of every chunk's unit triangular system [B H, C, L, L], by blocks of a quarter."""
    Q: tl.constexpr = L // 4
    row, chunk = tl.program_id(0), tl.program_id(1)
    batch, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    k += batch * kb + head * kh
    b += batch * bb + head * bh
    g += batch * gb + head * gh
    token, n = chunk * L + tl.arange(0, Q), tl.arange(0, N)
    k0, s0, sum0 = _keys_of(k, g, token, count, kt, gt, 0.0, n, n_dim)
    k1, s1, sum1 = _keys_of(k, g, token + Q, count, kt, gt, sum0, n, n_dim)
    k2, s2, sum2 = _keys_of(k, g, token + 2 * Q, count, kt, gt, sum1, n, n_dim)
    k3, s3, _ = _keys_of(k, g, token + 3 * Q, count, kt, gt, sum2, n, n_dim)
    b0, b1 = load_row(b, token, count, bt), load_row(b, token + Q, count, bt)
    b2, b3 = load_row(b, token + 2 * Q, count, bt), load_row(b, token + 3 * Q, count, bt)
    t = inverses + (row.to(tl.int64) * tl.num_programs(1) + chunk) * L * L
    t0 = _inverse(_below(k0, s0, b0, k0, s0, PRECISION), Q)
    t1 = _inverse(_below(k1, s1, b1, k1, s1, PRECISION), Q)
    t2 = _inverse(_below(k2, s2, b2, k2, s2, PRECISION), Q)
    t3 = _inverse(_below(k3, s3, b3, k3, s3, PRECISION), Q)
    a10 = _below(k1, s1, b1, k0, s0, PRECISION)
    a20, a21 = _below(k2, s2, b2, k0, s0, PRECISION), _below(k2, s2, b2, k1, s1, PRECISION)
    a30, a31 = _below(k3, s3, b3, k0, s0, PRECISION), _below(k3, s3, b3, k1, s1, PRECISION)
    a32 = _below(k3, s3, b3, k2, s2, PRECISION)
    t10 = -_times(t1, _times(a10, t0))
    t21 = -_times(t2, _times(a21, t1))
    t32 = -_times(t3, _times(a32, t2))
    t20 = -_times(t2, _times(a20, t0) + _times(a21, t10))
    t31 = -_times(t3, _times(a31, t1) + _times(a32, t21))
    t30 = -_times(t3, _times(a30, t0) + _times(a31, t10) + _times(a32, t20))
    zero = tl.zeros((Q, Q), dtype=tl.float32)
    _put_row(t, 0, t0, zero, zero, zero, L, Q)
    _put_row(t, 1, t10, t1, zero, zero, L, Q)
    _put_row(t, 2, t20, t21, t2, zero, L, Q)
    _put_row(t, 3, t30, t31, t32, t3, L, Q)
