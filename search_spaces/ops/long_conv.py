"""Causal convolution with a kernel as long as the sequence, by the fast Fourier transform.

    y_t = sum_{l <= t} h_l x_{t-l}          one kernel per channel

Both are padded to the sum of their lengths, so that nothing wraps around, and transformed in float32 at
least. O(T log T) where the sum itself is O(T^2).

Other runtimes have slow transforms or none. Their programs compute the sum, cut into blocks of tokens, as
one product of matrices for each channel:

    y[i w + a] = sum_{k <= i} sum_b h[k w + a - b] x[(i - k) w + b]

Shapes: B batch, T tokens, D channels, L taps, n blocks, w width of a block.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def long_conv(x: Tensor, kernel: Tensor) -> Tensor:
    """Outputs [B, T, D] of x [B, T, D] under kernels [D, L]; taps beyond T are not used."""
    if torch.compiler.is_exporting():
        return long_conv_in_blocks(x, kernel)
    count = x.shape[1]
    kernel = kernel[:, :count]
    exact = torch.promote_types(x.dtype, torch.float32)
    size = _fast_size(count + kernel.shape[1] - 1)
    spectrum = torch.fft.rfft(x.to(exact), size, dim=1) * torch.fft.rfft(kernel.to(exact), size).mT
    return torch.fft.irfft(spectrum, size, dim=1)[:, :count].to(x.dtype)


def long_conv_plainly(x: Tensor, kernel: Tensor) -> Tensor:
    """The same by its sum, as a depthwise convolution."""
    kernel = kernel[:, : x.shape[1]]
    padded = F.pad(x.mT, (kernel.shape[1] - 1, 0))
    return F.conv1d(padded, kernel.flip(-1)[:, None], groups=kernel.shape[0]).mT


def long_conv_in_blocks(x: Tensor, kernel: Tensor) -> Tensor:
    """The same by products of matrices: O(T^2) multiply-adds and O(T^1.5) numbers for a channel."""
    count = x.shape[1]
    width = max(1, math.isqrt(count))
    blocks = -(-count // width)
    exact = torch.promote_types(x.dtype, torch.float32)
    # pieces 1 to n of what is read here hold the tokens; the last block sees the pieces n, n-1, ..., 1
    padded = F.pad(x.to(exact), (0, 0, blocks * width, blocks * width - count))
    pieces = padded.unflatten(1, (2 * blocks, width)).permute(3, 0, 2, 1)  # [D, B, w, 2n]
    place = torch.arange(blocks, device=x.device)
    seen = pieces.index_select(-1, (blocks + place[:, None] - place).flatten())
    seen = seen.unflatten(-1, (blocks, blocks)).permute(0, 1, 3, 4, 2).flatten(3)  # [D, B, n, n w]
    taps = F.pad(kernel[:, :count].to(exact), (width, blocks * width - min(count, kernel.shape[1])))
    inside = torch.arange(width, device=x.device)
    lag = width + width * place[:, None] + inside[:, None, None] - inside  # [w, n, w]: a, k, b
    heard = taps.index_select(1, lag.flatten()).unflatten(1, (width, blocks * width))
    y = seen.flatten(1, 2) @ heard.mT  # [D, B n, w]
    return y.unflatten(1, (-1, blocks)).flatten(2)[:, :, :count].permute(1, 2, 0).to(x.dtype)


def _fast_size(least: int) -> int:
    """The smallest even size from `least` on with no prime factor beyond five.

    scipy has such a function, but torch.compile could not trace it.
    """
    size = least + least % 2
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 2
