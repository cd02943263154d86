"""Every operation has a fast and a plain form, and each is the other's test."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from search_spaces.ops import attention, decay_attention, experts, gated_attention, rotary, scan, short_conv

LENGTHS = (1, 2, 7, 16, 17, 63, 64, 65, 130)
Shape = tuple[int, ...]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def assert_near(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def gradients(outputs: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    weights = draw(*outputs.shape, seed=9, dtype=outputs.dtype)
    return list(torch.autograd.grad((outputs * weights).sum(), leaves))


class TestAttention:
    @pytest.mark.parametrize("count", LENGTHS)
    @pytest.mark.parametrize("groups", [1, 2, 4])
    @pytest.mark.parametrize("window", [None, 1, 5, 64])
    def test_fast_is_plain(self, count: int, groups: int, window: int | None) -> None:
        q = draw(2, 4, count, 6).requires_grad_()
        k, v = (draw(2, groups, count, 6, seed=s).requires_grad_() for s in (1, 2))
        fast, plain = attention.attend(q, k, v, window), attention.attend_plainly(q, k, v, window)
        assert_near(fast, plain)
        for slope, expected_slope in zip(
            gradients(fast, [q, k, v]), gradients(plain, [q, k, v]), strict=True
        ):
            assert_near(slope, expected_slope)

    @pytest.mark.parametrize("groups", [1, 2, 4])
    def test_one_query_is_the_last_of_all(self, groups: int) -> None:
        q, k, v = draw(2, 4, 9, 6), draw(2, groups, 9, 6, seed=1), draw(2, groups, 9, 6, seed=2)
        last = attention.attend_plainly(q, k, v)[:, :, -1]
        assert_near(attention.attend_one(q[:, :, -1], k, v), last)
        room_k, room_v = (torch.cat((part, part + 7), dim=2) for part in (k, v))
        assert_near(attention.attend_one(q[:, :, -1], room_k, room_v, torch.arange(18) < 9), last)

    @pytest.mark.parametrize("scale", [None, 1.0, 0.3])
    @pytest.mark.parametrize("cap", [None, 0.5])
    @pytest.mark.parametrize("sinks", [None, draw(4, seed=3)])
    def test_one_query_is_weighed_like_the_last_of_all(
        self, scale: float | None, cap: float | None, sinks: torch.Tensor | None
    ) -> None:
        q, k, v = draw(2, 4, 9, 6), draw(2, 2, 9, 6, seed=1), draw(2, 2, 9, 6, seed=2)
        weighing = attention.Weighing(scale, cap, sinks)
        last = attention.attend_plainly(q, k, v, weighing=weighing)[:, :, -1]
        assert_near(attention.attend_one_to_parts(q[:, :, -1], [(k, v, None)], weighing), last)

    @pytest.mark.parametrize("window", [None, 3, 8])
    def test_any_keys_may_be_hidden(self, window: int | None) -> None:
        q, k, v = draw(1, 4, 9, 6), draw(1, 2, 9, 6, seed=1), draw(1, 2, 9, 6, seed=2)
        age = torch.arange(9)[:, None] - torch.arange(9)
        seen = (age >= 0) & (age < (window or 9))
        assert_near(attention.attend_to_cache(q, k, v, seen), attention.attend_plainly(q, k, v, window))

    def test_windows_cost_linear_time(self) -> None:
        assert attention.pairs(100, None) == attention.pairs(100, 100) == 5050
        assert attention.pairs(800, 10) == 8 * attention.pairs(100, 10)


class TestRotary:
    def test_products_depend_on_distance_only(self) -> None:
        q, k = draw(1, 8), draw(1, 8, seed=1)
        products = [(rotary.rotate(q, p + 3) * rotary.rotate(k, p)).sum() for p in (0, 5, 1000)]
        assert_near(torch.stack(products), products[0].expand(3))

    def test_it_is_a_rotation_of_channel_pairs(self) -> None:
        x = draw(5, 6)
        pairs, turned = torch.complex(x[:, :3], x[:, 3:]), rotary.rotate(x, 2)
        angle = (2 + torch.arange(5.0, dtype=torch.float64))[:, None] * 10_000.0 ** -(
            torch.arange(3).double() / 3
        )
        expected = pairs * torch.polar(torch.ones_like(angle), angle)
        assert_near(turned, torch.cat((expected.real, expected.imag), dim=-1))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    def test_a_position_may_be_a_tensor(self, dtype: torch.dtype) -> None:
        x = draw(2, 4, 6, dtype=dtype)
        assert torch.equal(rotary.rotate(x, 300), rotary.rotate(x, torch.tensor(300)))

    def test_tables_of_inference_mode_can_be_learned_with(self) -> None:
        x = draw(3, 34)  # a width of its own, so that no other test has made its table
        with torch.inference_mode():
            rotary.rotate(x, 0)
        rotary.rotate(x.requires_grad_(), 0).sum().backward()


Recurrence = tuple[Callable[..., tuple[Tensor, Tensor]], Callable[..., tuple[Tensor, Tensor]], Shape]
RECURRENCES: dict[str, Recurrence] = {
    "one decay per head": (decay_attention.decay_attention, decay_attention.decay_attention_plainly, ()),
    "a decay per channel": (gated_attention.gated_attention, gated_attention.gated_attention_plainly, (5,)),
}


def parts(
    count: int, decay: Shape, strength: float = 1.0, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """q, k, v, g and a state of 3 heads, 5 states and 4 channels."""
    q, k, v = draw(2, count, 3, 5), draw(2, count, 3, 5, seed=1), draw(2, count, 3, 4, seed=2)
    g = -strength * draw(2, count, 3, *decay, seed=3).abs()
    return [part.to(dtype) for part in (q, k, v, g, draw(2, 3, 5, 4, seed=4))]


@pytest.mark.parametrize("name", RECURRENCES)
class TestRecurrences:
    @pytest.mark.parametrize("count", LENGTHS)
    def test_fast_is_plain(self, name: str, count: int) -> None:
        fast, plain, decay = RECURRENCES[name]
        q, k, v, g, state = parts(count, decay)
        y, last = fast(q, k, v, g, final=True)
        expected, expected_last = plain(q, k, v, g)
        assert_near(y, expected)
        assert_near(last, expected_last)
        y, last = fast(q, k, v, g, state, final=True)
        expected, expected_last = plain(q, k, v, g, state)
        assert_near(y, expected)
        assert_near(last, expected_last)
        assert fast(q, k, v, g)[1] is None

    @pytest.mark.parametrize("count", [3, 16, 37, 70])
    def test_gradients_are_those_of_the_plain_form(self, name: str, count: int) -> None:
        fast, plain, decay = RECURRENCES[name]
        leaves = [part.requires_grad_() for part in parts(count, decay)]
        actual, expected = (gradients(form(*leaves)[0], leaves) for form in (fast, plain))
        for slope, expected_slope in zip(actual, expected, strict=True):
            assert_near(slope, expected_slope, 1e-9)

    @pytest.mark.parametrize("strength", [0.0, 8.0, 100.0])
    def test_extreme_decays_are_exact(self, name: str, strength: float) -> None:
        fast, plain, decay = RECURRENCES[name]
        q, k, v, g, state = parts(70, decay, dtype=torch.float32)
        g = torch.full_like(g, -strength)
        leaves = [part.requires_grad_() for part in (q, k, v, g, state)]
        y, last = fast(*leaves, final=True)
        exact = [part.detach().double() for part in leaves]
        expected, expected_last = plain(*exact)
        scale = expected.abs().max().item()
        torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-6 * scale)
        torch.testing.assert_close(last.double(), expected_last, rtol=1e-5, atol=1e-6 * scale)
        assert all(grad.isfinite().all() for grad in gradients(y, leaves))

    def test_a_sudden_decay_forgets_exactly(self, name: str) -> None:
        fast, plain, decay = RECURRENCES[name]
        q, k, v, g, _ = parts(70, decay, dtype=torch.float32)
        g[:, 21], g[:, 50] = -100, -100
        torch.testing.assert_close(fast(q, k, v, g)[0], plain(q, k, v, g)[0], rtol=1e-4, atol=1e-4)

    def test_bfloat16_keeps_its_state_in_float32(self, name: str) -> None:
        fast, plain, decay = RECURRENCES[name]
        rough = parts(130, decay, strength=0.01, dtype=torch.bfloat16)
        y, last = fast(*rough, final=True)
        expected, _ = plain(*(part.double() for part in rough))
        assert y.dtype == torch.bfloat16
        assert last.dtype == torch.float32
        assert (y.double() - expected).abs().max() < 0.02 * expected.abs().max()


def test_queries_and_keys_may_be_shared_by_all_heads() -> None:
    q, k, v, g, state = parts(70, ())
    q, k = q[:, :, :1], k[:, :, :1]
    fast = decay_attention.decay_attention(q, k, v, g, state)[0]
    assert_near(fast, decay_attention.decay_attention_plainly(q, k, v, g, state)[0])


class TestScan:
    @pytest.mark.parametrize("count", LENGTHS)
    def test_fast_is_plain(self, count: int) -> None:
        a, b, start = draw(2, count, 3).sigmoid(), draw(2, count, 3, seed=1), draw(2, 3, seed=2)
        assert_near(scan.scan(a, b), scan.scan_plainly(a, b))
        assert_near(scan.scan(a, b, start), scan.scan_plainly(a, b, start))

    @pytest.mark.parametrize("count", [1, 2, 5, 12])
    def test_the_written_out_gradient_is_right(self, count: int) -> None:
        a, b, start = draw(1, count, 2).sigmoid(), draw(1, count, 2, seed=1), draw(1, 2, seed=2)
        leaves = [part.requires_grad_() for part in (a, b, start)]
        assert torch.autograd.gradcheck(scan.scan, leaves)

    @pytest.mark.parametrize("fade", [0.0, 1.0, 3e-4])
    def test_extreme_decays_are_exact(self, fade: float) -> None:
        b = draw(1, 130, 3, dtype=torch.float32).requires_grad_()
        a = torch.full_like(b, fade).requires_grad_()
        h = scan.scan(a, b)
        expected = scan.scan_plainly(a.double(), b.double())
        torch.testing.assert_close(h.double(), expected, rtol=1e-5, atol=1e-5)
        assert all(grad.isfinite().all() for grad in gradients(h, [a, b]))


class TestShortConv:
    @pytest.mark.parametrize("taps", [1, 2, 3, 4, 7])
    @pytest.mark.parametrize("count", [1, 2, 7, 64])
    def test_fast_is_plain(self, taps: int, count: int) -> None:
        x, weight, bias = draw(2, count, 3), draw(3, taps, seed=1), draw(3, seed=2)
        assert_near(short_conv.short_conv(x, weight, bias)[0], short_conv.short_conv_plainly(x, weight, bias))
        assert_near(short_conv.short_conv(x, weight)[0], short_conv.short_conv_plainly(x, weight))

    @pytest.mark.parametrize("cut", [1, 2, 5, 8])
    def test_it_goes_on_from_its_last_inputs(self, cut: int) -> None:
        x, weight = draw(2, 9, 3), draw(3, 4, seed=1)
        head, before = short_conv.short_conv(x[:, :cut], weight)
        tail, _ = short_conv.short_conv(x[:, cut:], weight, before=before)
        assert_near(torch.cat((head, tail), dim=1), short_conv.short_conv_plainly(x, weight))

    def test_a_leading_slice_is_a_kernel_of_the_latest_tokens(self) -> None:
        x, weight = draw(1, 9, 3), draw(3, 4, seed=1)
        shorter = weight.clone()
        shorter[:, 2:] = 0
        assert_near(short_conv.short_conv(x, weight[:, :2])[0], short_conv.short_conv(x, shorter)[0])


class TestExperts:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("top_k", [1, 2, 4])
    @pytest.mark.parametrize("tokens", [1, 2, 33])
    def test_fast_is_plain_on_slices(self, tokens: int, top_k: int, dtype: torch.dtype) -> None:
        x, logits = draw(tokens, 6, dtype=dtype), draw(tokens, 4, seed=1, dtype=dtype)
        gated, up = (draw(5, 9, 8, seed=s, dtype=dtype)[:4, :7, :6] for s in (2, 3))
        down = draw(5, 8, 9, seed=4, dtype=dtype)[:4, :6, :7]
        leaves = [part.detach().requires_grad_() for part in (x, gated, up, down)]
        gates, index = experts.route(logits, top_k)
        x, *matrices = leaves
        weights = experts.ExpertWeights(*matrices)
        fast = experts.expert_mixture(x, gates, index, weights)
        plain = experts.expert_mixture_plainly(x, gates, index, weights)
        assert fast.dtype == dtype
        tolerance = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 0.3}[dtype]
        assert_near(fast, plain, tolerance)
        if dtype != torch.bfloat16:
            for slope, expected_slope in zip(gradients(fast, leaves), gradients(plain, leaves), strict=True):
                assert_near(slope, expected_slope, 10 * tolerance)

    def test_balance_is_one_when_balanced_and_the_number_of_experts_when_not(self) -> None:
        even = torch.eye(4).repeat(3, 1) * 50
        assert_near(experts.load_balance(even, even.topk(1).indices), torch.tensor(1.0), 1e-6)
        odd = torch.eye(4)[:1].repeat(12, 1) * 50
        assert_near(experts.load_balance(odd, odd.topk(1).indices), torch.tensor(4.0), 1e-6)
