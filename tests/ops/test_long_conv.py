"""Convolutions as long as the sequence, by the Fourier transform, against their sum."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.fft import next_fast_len
from torch import Tensor

from search_spaces.ops.long_conv import _fast_size, long_conv, long_conv_plainly

LENGTHS = (1, 2, 63, 64, 65, 1000)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("taps", [1, 7, 64, 1500])
@pytest.mark.parametrize("count", LENGTHS)
def test_fast_is_plain(count: int, taps: int, batch: int) -> None:
    x, kernel = draw(batch, count, 3), draw(3, taps, seed=1)
    fast, plain = long_conv(x, kernel), long_conv_plainly(x, kernel)
    assert fast.shape == x.shape
    torch.testing.assert_close(fast, plain, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("count", "taps"), [(1, 1), (5, 9), (65, 65), (65, 13)])
def test_both_are_numpys(count: int, taps: int) -> None:
    x, kernel = draw(1, count, 2), draw(2, taps, seed=1)
    for d in range(2):
        expected = torch.from_numpy(np.convolve(x[0, :, d].numpy(), kernel[d].numpy())[:count])
        for form in (long_conv, long_conv_plainly):
            torch.testing.assert_close(form(x, kernel)[0, :, d], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("count", "taps"), [(1, 3), (9, 4), (33, 33), (20, 50)])
def test_gradients_are_those_of_the_plain_form(count: int, taps: int) -> None:
    x, kernel = draw(2, count, 3).requires_grad_(), draw(3, taps, seed=1).requires_grad_()
    mix = draw(2, count, 3, seed=2)
    actual, expected = (
        torch.autograd.grad((form(x, kernel) * mix).sum(), (x, kernel))
        for form in (long_conv, long_conv_plainly)
    )
    for slope, expected_slope in zip(actual, expected, strict=True):
        torch.testing.assert_close(slope, expected_slope, rtol=1e-11, atol=1e-11)


def test_nothing_wraps_around_to_the_beginning() -> None:
    x = torch.zeros(1, 64, 1, dtype=torch.float64)
    x[0, -1] = 1e6
    y = long_conv(x, draw(1, 64))
    assert y[0, :-1].abs().max() < 1e-9


def test_a_geometric_kernel_is_a_recurrence() -> None:
    fades, x = torch.tensor([0.0, 0.5, -0.9, 0.999], dtype=torch.float64), draw(2, 200, 4)
    kernel = fades[:, None] ** torch.arange(200)
    h, states = torch.zeros(2, 4, dtype=torch.float64), []
    for x_t in x.unbind(1):
        h = fades * h + x_t
        states.append(h)
    torch.testing.assert_close(long_conv(x, kernel), torch.stack(states, dim=1), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rough_numbers_are_summed_in_float32(dtype: torch.dtype) -> None:
    x, kernel = draw(2, 1000, 3, dtype=dtype), draw(3, 1000, seed=1, dtype=dtype) / math.sqrt(1000)
    y, expected = long_conv(x, kernel), long_conv_plainly(x.double(), kernel.double())
    assert y.dtype == dtype
    step = torch.finfo(dtype).eps
    assert (y - expected).abs().max() < max(step / 2, 1e-6) * expected.abs().max()


def test_later_tokens_only_append() -> None:
    x, kernel = draw(1, 130, 3), draw(3, 130, seed=1)
    torch.testing.assert_close(
        long_conv(x, kernel)[:, :77], long_conv(x[:, :77], kernel), rtol=1e-11, atol=1e-11
    )


def test_transforms_are_of_sizes_that_are_fast() -> None:
    for least in (1, 2, 3, 7, 11, 97, 1001, 4099, 65_537):
        expected = next_fast_len(least, real=True)
        while expected % 2:
            expected = next_fast_len(expected + 1, real=True)
        assert _fast_size(least) == expected
