"""Causal convolution with a kernel as long as the sequence, by the fast Fourier transform.

    y_t = sum_{l <= t} h_l x_{t-l}          one kernel per channel

Both are padded to the sum of their lengths, so that nothing wraps around, and transformed in float32 at
least. O(T log T) where the sum itself is O(T^2).

Shapes: B batch, T tokens, D channels, L taps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def long_conv(x: Tensor, kernel: Tensor) -> Tensor:
    """Outputs [B, T, D] of x [B, T, D] under kernels [D, L]; taps beyond T are not used."""
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
