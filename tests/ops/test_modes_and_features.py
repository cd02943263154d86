"""Modes of linear systems, feature maps and products of heads against their definitions; counted products."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.ops import decay_attention, features, linear, long_conv, low_rank_modes, modes, rotary
from tests.blocks.filled import dice
from tests.ops.recurrences import Sizes, normal

LENGTHS = (1, 7, 63, 64, 65, 130)


def flops(call: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def near(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


class TestModes:
    def system(self, channels: int = 3, count: int = 4) -> tuple[Tensor, Tensor]:
        """Logarithms of fades and angles [D, N]."""
        return -normal(channels, count, seed=1).abs() / 5, normal(channels, count, seed=2)

    @pytest.mark.parametrize("count", LENGTHS)
    def test_kernels_are_sums_of_powers(self, count: int) -> None:
        log_fade, turn = self.system()
        real, imag = normal(3, 4, seed=3), normal(3, 4, seed=4)
        step = torch.arange(count, dtype=torch.float64)
        powers = torch.complex(log_fade, turn)[..., None].mul(step).exp()
        expected = (torch.complex(real, imag)[..., None] * powers).sum(1).real
        near(modes.mode_kernel(real, imag, log_fade, turn, count), expected)

    @pytest.mark.parametrize("count", LENGTHS)
    def test_states_are_those_of_the_recurrence(self, count: int) -> None:
        log_fade, turn = self.system()
        u, state = normal(2, count, 3, seed=5), torch.zeros(2, 3, 4, dtype=torch.complex128)
        for token in u.unbind(1):
            state = state * torch.complex(log_fade, turn).exp() + token[..., None]
        real, imag = modes.mode_state(u, log_fade, turn)
        near(torch.complex(real, imag), state)

    @pytest.mark.parametrize("count", LENGTHS)
    def test_products_are_counted(self, count: int) -> None:
        log_fade, turn = self.system()
        kernel, state = modes.mode_products(count, 3, 4)
        real, imag, u = normal(3, 4, seed=3), normal(3, 4, seed=4), normal(1, count, 3, seed=5)
        assert flops(lambda: modes.mode_kernel(real, imag, log_fade, turn, count)) == 2 * kernel
        assert flops(lambda: modes.mode_state(u, log_fade, turn)) == 2 * state

    def test_gradients_of_kernels(self) -> None:
        leaves = [normal(2, 3, seed=seed).requires_grad_() for seed in range(4)]

        def kernel(real: Tensor, imag: Tensor, fade: Tensor, turn: Tensor) -> Tensor:
            return modes.mode_kernel(real, imag, -fade.exp(), turn, 9)

        assert torch.autograd.gradcheck(kernel, leaves, fast_mode=True)


class TestLowRankModes:
    CHANNELS, MODES = 2, 3

    def system(self) -> low_rank_modes.LowRankModes:
        pole = torch.complex(-normal(self.MODES, seed=1).abs() - 0.1, 3 * normal(self.MODES, seed=2))
        p, b = (torch.complex(normal(self.MODES, seed=s), normal(self.MODES, seed=s + 1)) / 2 for s in (3, 5))
        return low_rank_modes.LowRankModes(pole, p, b, normal(self.CHANNELS, 1, seed=7).abs() / 5 + 0.01)

    def dense(self, system: low_rank_modes.LowRankModes) -> tuple[Tensor, Tensor]:
        """A [D, N, N] and B [D, N] of the bilinear rule, by dense matrices."""
        matrix = torch.diag(system.pole) - system.p[:, None] * system.p.conj()
        eye = torch.eye(self.MODES, dtype=matrix.dtype)
        left = eye - system.dt[..., None] / 2 * matrix
        a = torch.linalg.solve(left, eye + system.dt[..., None] / 2 * matrix)
        b = torch.linalg.solve(left, (system.dt * system.b)[..., None])[..., 0]
        return a, b

    def test_a_step_is_that_of_dense_matrices(self) -> None:
        system = self.system()
        a, b = self.dense(system)
        state = torch.complex(normal(4, 2, 3, seed=8), normal(4, 2, 3, seed=9))
        near(system.advanced(state), (a @ state[..., None])[..., 0])
        near(system.fed(), b)
        for length in (1, 2, 8):
            near(system.jump(length), torch.linalg.matrix_power(a, length))

    @pytest.mark.parametrize("count", LENGTHS)
    def test_kernels_and_states_are_those_of_the_recurrence(self, count: int) -> None:
        system = self.system()
        a, b = self.dense(system)
        c = torch.complex(normal(2, 3, seed=10), normal(2, 3, seed=11))
        u = normal(2, count, 2, seed=12)
        start = torch.complex(normal(2, 2, 3, seed=13), normal(2, 2, 3, seed=14))
        kernel, near_part, far, jump = low_rank_modes.low_rank_kernel(system, c, count)
        power, expected = b, []
        for _ in range(count):
            expected.append((c * power).sum(-1).real)
            power = (a @ power[..., None])[..., 0]
        near(kernel, torch.stack(expected, dim=-1))
        state, alone, responses = start, start, []
        for token in u.unbind(1):
            alone = (a @ alone[..., None])[..., 0]
            state = (a @ state[..., None])[..., 0] + b * token[..., None]
            responses.append((c * alone).sum(-1).real)
        near(low_rank_modes.low_rank_state(system, u, near_part, jump, start), state)
        near(low_rank_modes.low_rank_response(system, far, start, count), torch.stack(responses, dim=1))

    @pytest.mark.parametrize("count", LENGTHS)
    def test_products_are_counted(self, count: int) -> None:
        system = self.system()
        c = torch.complex(normal(2, 3, seed=10), normal(2, 3, seed=11))
        kernel, state = low_rank_modes.low_rank_products(count, self.CHANNELS, self.MODES)
        _, near_part, _, jump = low_rank_modes.low_rank_kernel(system, c, count)
        u = normal(1, count, 2, seed=12)
        assert flops(lambda: low_rank_modes.low_rank_kernel(system, c, count)) == 2 * kernel
        assert flops(lambda: low_rank_modes.low_rank_state(system, u, near_part, jump, None)) == 2 * state

    @given(st.integers(1, 100_000))
    def test_blocks_are_powers_of_two_near_the_square_root(self, count: int) -> None:
        length = low_rank_modes.block_length(count)
        assert length & (length - 1) == 0
        assert length / 2 < math.sqrt(count) <= length


class TestFeatures:
    @settings(max_examples=30, deadline=None)
    @given(width=st.integers(1, 9), seed=st.integers(0, 99))
    def test_taylor_features_are_those_of_the_second_order(self, width: int, seed: int) -> None:
        x, y = normal(5, width, seed=seed), normal(5, width, seed=seed + 100)
        mapped = features.taylor_features(x)
        assert mapped.shape == (5, features.taylor_size(width))
        z = (x * y).sum(-1)
        near((mapped * features.taylor_features(y)).sum(-1), 1 + z + z.square() / 2)

    def test_elu_features_are_elu_and_one_and_stay_positive(self) -> None:
        x = torch.linspace(-40, 40, 81)
        torch.testing.assert_close(features.elu_features(x), F.elu(x) + 1, rtol=1e-6, atol=1e-6)
        assert (features.elu_features(x) > 0).all()
        assert (features.elu_features(torch.tensor([-80.0, -50.0])) > 0).all()  # elu(x) + 1 would be zero

    def test_ones_make_the_denominator(self) -> None:
        weights, v = normal(4, 6).abs(), normal(6, 3, seed=1)
        y = features.normalised(weights @ features.with_ones(v))
        near(y, (weights / weights.sum(-1, keepdim=True)) @ v)
        assert torch.equal(features.normalised(torch.zeros(2, 4)), torch.zeros(2, 3))

    @pytest.mark.parametrize(("count", "width"), [(1, 4), (4, 4), (7, 3), (16, 8), (20, 8)])
    def test_directions_are_orthogonal_in_runs_and_repeatable(self, count: int, width: int) -> None:
        directions = features.orthogonal_directions(count, width)
        assert directions.shape == (count, width)
        assert directions.dtype == torch.float64
        for run in directions.split(width):
            products = run @ run.T
            near(products, torch.diag(products.diagonal()))
        features.orthogonal_directions.cache_clear()
        before = torch.get_rng_state()
        assert torch.equal(features.orthogonal_directions(count, width), directions)
        assert torch.equal(torch.get_rng_state(), before)

    def test_directions_are_as_long_as_normal_vectors(self) -> None:
        lengths = features.orthogonal_directions(4000, 8).square().sum(-1)
        assert abs(float(lengths.mean()) - 8) < 5 * math.sqrt(2 * 8 / 4000)  # chi squared of 8 degrees


class TestLinear:
    def test_projections_are_contractions(self) -> None:
        x, weight = normal(2, 7, 5), normal(3, 6, 9, seed=1)[:, :4, :5]
        near(linear.project(x, weight), torch.einsum("btd,hkd->bthk", x, weight))
        back = normal(6, 5, 7, seed=2)[:, :3, :4]
        near(linear.merge(linear.project(x, weight), back), torch.einsum("btd,hkd,ohk->bto", x, weight, back))
        near(linear.linear_per_head(x, weight[:2].mT.mT), torch.einsum("hrk,hjk->hrj", x, weight[:2]))

    def test_filled_weights_have_the_variance_of_their_inputs(self) -> None:
        weight = torch.empty(300, 400)
        linear.fill(weight, 400, dice(0))
        assert abs(float(weight.square().mean()) * 400 - 1) < 5 * math.sqrt(2 / weight.numel())
        again = torch.empty(300, 400)
        linear.fill(again, 400, dice(0))
        assert torch.equal(weight, again)

    def test_a_head_norm_gives_each_head_the_same_size(self) -> None:
        y, weight = normal(2, 7, 3, 8), normal(8, seed=1)
        expected = y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight
        near(linear.head_norm(y, weight), expected)
        near(linear.head_norm(1000 * y, weight), expected, 1e-5)


class TestRotary:
    @settings(max_examples=30, deadline=None)
    @given(first=st.integers(0, 300), then=st.integers(0, 300), pairs=st.integers(1, 8))
    def test_rotations_add_up(self, first: int, then: int, pairs: int) -> None:
        x = normal(2, 1, 2 * pairs)
        near(rotary.rotate(rotary.rotate(x, first), then), rotary.rotate(x, first + then))

    @pytest.mark.parametrize("count", LENGTHS)
    def test_lengths_stay_and_position_zero_does_not_turn(self, count: int) -> None:
        x = normal(2, 3, count, 6)
        turned = rotary.rotate(x, 0)
        near(turned.norm(dim=-1), x.norm(dim=-1))
        assert torch.equal(turned[..., 0, :], x[..., 0, :])

    @pytest.mark.parametrize("cut", [1, 64, 127, 128, 129])
    def test_tables_of_any_length_agree(self, cut: int) -> None:
        x = normal(1, 200, 4)
        whole = rotary.rotate(x, 5)
        pieces = torch.cat((rotary.rotate(x[:, :cut], 5), rotary.rotate(x[:, cut:], 5 + cut)), dim=1)
        assert torch.equal(pieces, whole)

    def test_what_a_step_in_inference_mode_looked_up_serves_learning(self) -> None:
        x = normal(1, 1, 4)
        with torch.inference_mode():
            turned = rotary.rotate(x, 77, base=123.0)
        leaf = x.clone().requires_grad_()
        again = rotary.rotate(leaf, 77, base=123.0)
        again.sum().backward()
        assert torch.equal(again, turned)
        assert leaf.grad is not None


class TestLongConvolution:
    @settings(max_examples=25, deadline=None)
    @given(count=st.sampled_from(LENGTHS), taps=st.integers(1, 140), seed=st.integers(0, 9))
    def test_the_transform_is_the_sum(self, count: int, taps: int, seed: int) -> None:
        x, kernel = normal(2, count, 3, seed=seed), normal(3, taps, seed=seed + 50)
        near(long_conv.long_conv(x, kernel), long_conv.long_conv_plainly(x, kernel), 1e-9)
        view = normal(5, count + 2, 2, seed=seed).permute(2, 1, 0)[:, 1:-1, 1:4]
        near(long_conv.long_conv(view, kernel), long_conv.long_conv(view.contiguous(), kernel), 1e-12)

    @pytest.mark.parametrize("count", [1, 7, 65])
    def test_gradients_are_those_of_the_sum(self, count: int) -> None:
        leaves = [normal(2, count, 3).requires_grad_(), normal(3, 9, seed=1).requires_grad_()]
        by_transform, by_sum = (
            torch.autograd.grad(form(*leaves).sin().sum(), leaves)
            for form in (long_conv.long_conv, long_conv.long_conv_plainly)
        )
        for slope, expected in zip(by_transform, by_sum, strict=True):
            near(slope, expected, 1e-9)

    def test_dtypes_stay(self) -> None:
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            x, kernel = normal(2, 9, 3).to(dtype), normal(3, 9, seed=1).to(dtype)
            assert long_conv.long_conv(x, kernel).dtype == dtype

    @given(st.integers(1, 5000))
    def test_sizes_are_even_and_have_small_factors(self, least: int) -> None:
        size = long_conv._fast_size(least)
        assert least <= size <= 2 * least + 1
        assert size % 2 == 0
        for prime in (2, 3, 5):
            while size % prime == 0:
                size //= prime
        assert size == 1


@pytest.mark.parametrize("shared", [False, True], ids=["keys per head", "shared keys"])
@pytest.mark.parametrize("count", LENGTHS)
def test_products_of_decay_attention_are_counted(count: int, shared: bool) -> None:
    sizes = Sizes(batch=1, count=count)
    read = 1 if shared else sizes.heads
    q, k = (normal(1, count, read, sizes.keys, seed=seed) for seed in (1, 2))
    v, g = normal(1, count, sizes.heads, sizes.values, seed=3), -normal(1, count, sizes.heads, seed=4).abs()
    products = decay_attention.products(count, sizes.heads, sizes.keys, sizes.values, shared)
    counted = flops(lambda: decay_attention.decay_attention(q, k, v, g, final=True))
    # keys that heads share are faded for each head: their sums over values are those of each head
    assert counted == 2 * products


@pytest.mark.parametrize(("decay", "first"), [("narrow", 31 / 32), ("wide", 1 / 2)])
def test_constant_decays_are_those_of_their_names(decay: str, first: float) -> None:
    few, many = (decay_attention.constant_decays(decay, heads, torch.zeros(1)) for heads in (2, 6))
    assert few.exp()[0].item() == pytest.approx(first)
    assert torch.equal(few, many[:2])
    assert (many.diff() > 0).all()
    assert (many < 0).all()
    assert decay_attention.constant_decays("none", 6, torch.zeros(1)).tolist() == [0.0]
