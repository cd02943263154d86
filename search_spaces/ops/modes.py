"""Sums over the modes of a diagonal linear system, two-level, as real matrix products.

    kernel:  h_l = Re sum_n c_n a_n^l           state:  s = sum_t a_n^{T-1-t} u_t

with a_n = exp(rate_n). Powers are taken as l = i * L + j: a^l = a^{iL} a^j, so that only about sqrt(T) powers
of each mode are formed, and everything else is a product of matrices. Complex numbers are pairs of reals.

Shapes: T tokens, D channels, N modes, C blocks, L block length.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def mode_kernel(real: Tensor, imag: Tensor, log_fade: Tensor, turn: Tensor, count: int) -> Tensor:
    """Kernels [D, T] = Re sum_n (real + i imag) exp((log_fade + i turn) l); all of [D, N], log_fade <= 0."""
    length = block_length(count)
    blocks = -(-count // length)
    near_re, near_im = _powers(log_fade, turn, torch.arange(length, device=turn.device))
    far_re, far_im = _powers(log_fade, turn, length * torch.arange(blocks, device=turn.device))
    left_re = real[:, None] * far_re - imag[:, None] * far_im
    left_im = real[:, None] * far_im + imag[:, None] * far_re
    left = torch.cat((left_re, -left_im), dim=-1)
    right = torch.cat((near_re, near_im), dim=-1)
    return (left @ right.mT).flatten(1)[:, :count]


def mode_state(u: Tensor, log_fade: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary parts [B, D, N] of sum_t exp((log_fade + i turn) (T-1-t)) u_t, for u [B, T, D]."""
    count = u.shape[1]
    length = block_length(count)
    padded = F.pad(u, (0, 0, -count % length, 0)).unflatten(1, (-1, length))
    blocks = padded.shape[1]
    near = _powers(log_fade, turn, torch.arange(length - 1, -1, -1, device=u.device))
    local = padded.permute(3, 0, 1, 2).flatten(1, 2) @ torch.cat(near, dim=-1)
    local_re, local_im = local.unflatten(1, (-1, blocks)).chunk(2, dim=-1)
    far_re, far_im = _powers(log_fade, turn, length * torch.arange(blocks - 1, -1, -1, device=u.device))
    real = (local_re * far_re[:, None] - local_im * far_im[:, None]).sum(2)
    imag = (local_re * far_im[:, None] + local_im * far_re[:, None]).sum(2)
    return real.transpose(0, 1), imag.transpose(0, 1)


def mode_products(count: int, channels: int, modes: int) -> tuple[int, int]:
    """Multiply-adds of `mode_kernel` (once) and of `mode_state` (for a batch of one)."""
    length = block_length(count)
    padded = length * -(-count // length)
    return 2 * channels * modes * padded, 2 * channels * modes * padded


def block_length(count: int) -> int:
    """About the square root."""
    return max(1, math.isqrt(count))


def _powers(log_fade: Tensor, turn: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary parts [D, steps, N] of exp((log_fade + i turn) * steps)."""
    steps = steps.to(turn.dtype)[:, None]
    size = (log_fade[:, None] * steps).exp()
    angle = turn[:, None] * steps
    return size * angle.cos(), size * angle.sin()
