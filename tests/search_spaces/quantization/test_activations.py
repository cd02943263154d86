"""Activations of 8 bits: codes and outliers, which products are rounded, and that decode is prefill."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from search_spaces.blocks.base import Block, blocks
from search_spaces.blocks.latent_attention import LatentAttention
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.model import build
from search_spaces.network.norms.rms_norm import RMSNorm
from search_spaces.network.residual import Residual
from search_spaces.ops.experts import (
    ExpertWeights,
    expert_mixture,
    expert_mixture_fetched,
    expert_mixture_plainly,
    route,
)
from search_spaces.ops.linear import linear_per_head, multiplied_elsewhere
from search_spaces.quantization.activations import RoundedActivations, round_activations
from search_spaces.quantization.bits import Bits
from search_spaces.supernet import Supernet
from tests.search_spaces.quantization.small import network, values

EXAMPLES = [spec for kind in blocks.values() for spec in kind.examples()]


MULTIPLY = (torch.bmm, torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.einsum, torch.mm, torch.baddbmm)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_float8_activations_keep_relative_errors_and_rounding_twice_changes_no_code(scale: float) -> None:
    x = (scale * values((7, 33), 1)).requires_grad_()
    once = round_activations(x, "float")
    assert ((once - x).abs() <= 0.063 * x.abs() + x.abs().amax(-1, keepdim=True) / 448 / 1000).all()
    torch.testing.assert_close(round_activations(once, "float"), once, rtol=1e-6, atol=0)
    assert torch.equal(round_activations(x[2:3], "float"), once[2:3])  # a token by itself
    assert not round_activations(torch.zeros(2, 8), "float").any()
    once.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones_like(x))


class TestActivations:
    def test_each_token_has_a_scale_and_its_outliers_stay(self) -> None:
        x = values((3, 5, 32), 0)
        x[0, 0, 3], x[2, 4, 7] = 9.5, -6.25
        actual = round_activations(x)
        for token, got in zip(x.flatten(0, 1), actual.flatten(0, 1), strict=True):
            scale = max(abs(float(v)) for v in token if abs(float(v)) <= 6) / 127
            expected = [float(v) if abs(float(v)) > 6 else round(float(v) / scale) * scale for v in token]
            torch.testing.assert_close(got, torch.tensor(expected), rtol=1e-6, atol=1e-7)
        assert not torch.equal(actual, x)
        torch.testing.assert_close(round_activations(actual), actual, rtol=1e-6, atol=0)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
    def test_zeros_and_dtypes_stay(self, dtype: torch.dtype) -> None:
        x = torch.zeros(2, 9, dtype=dtype)
        assert torch.equal(round_activations(x), x)
        x[0, 0] = 40.0
        assert torch.equal(round_activations(x), x)

    def test_gradients_pass_straight_through(self) -> None:
        x = values((2, 9), 0).requires_grad_()
        round_activations(x).backward(torch.arange(18.0).view(2, 9))
        assert x.grad is not None
        assert torch.equal(x.grad, torch.arange(18.0).view(2, 9))

    def test_only_products_are_rounded(self) -> None:
        x, weight = values((3, 16), 0), values((4, 16), 1)
        with RoundedActivations():
            product, sum_ = F.linear(x, weight), x + 1
        assert torch.equal(product, F.linear(round_activations(x), weight))
        assert torch.equal(sum_, x + 1)
        assert torch.equal(F.linear(x, weight), x @ weight.T)

    def test_every_form_of_experts_is_rounded(self) -> None:
        x, logits = values((5, 16), 0), values((5, 4), 1)
        weights = values((4, 12, 16), 2), values((4, 12, 16), 3), values((4, 16, 12), 4)
        arguments = (x, *route(logits, 2), ExpertWeights(*weights))
        forms = (expert_mixture, expert_mixture_fetched, expert_mixture_plainly)
        exact = forms[0](*arguments)
        with RoundedActivations():
            rough = [form(*arguments) for form in forms]
        for actual in rough:
            torch.testing.assert_close(actual, rough[0], rtol=1e-5, atol=1e-5)
        assert (rough[0] - exact).abs().max() > 1e-3

    @torch.no_grad()
    def test_a_layer_rounds_what_enters_its_products(self) -> None:
        rough, exact = (build(network(Bits(activation=a), Bits(activation=a))) for a in (8, 16))
        tokens = torch.arange(30)[None]
        actual, expected = rough(tokens), exact(tokens)
        error = (actual - expected).square().mean().sqrt() / expected.std()
        assert 1e-4 < error < 0.05
        for layer in exact.decoder_layers:
            for half in layer.sublayers.values():
                half.activations = RoundedActivations
        assert torch.equal(exact(tokens), actual)

    @pytest.mark.parametrize("numbers", ["int", "float"])
    @torch.no_grad()
    def test_decode_is_prefill(self, numbers: str) -> None:
        bits = Bits(activation=8, numbers=numbers)
        model = build(network(bits, bits)).double()
        tokens = torch.randint(64, (2, 25), generator=torch.Generator().manual_seed(0))
        whole, _ = model.prefill(tokens)
        logits, state = model.prefill(tokens[:, :10])
        pieces = [logits]
        for token in tokens[:, 10:].unbind(1):
            logits, state = model.step(token, state)
            pieces.append(logits[:, None])
        torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=0, atol=1e-9)

    @pytest.mark.parametrize("spec", EXAMPLES, ids=str)
    @torch.no_grad()
    def test_decode_is_prefill_for_every_block(self, spec: Block) -> None:
        half = Residual(spec, 20, Bits(activation=8), RMSNorm())
        dice = torch.Generator().manual_seed(0)
        half.norm.fill_(1.0)
        half.mixer.reset_parameters(dice)
        for parameter in half.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=dice), alpha=0.1)
        half.double()
        x = torch.randn(2, 37, 20, generator=dice, dtype=torch.float64)
        whole = half(x).y
        head = half(x[:, :9], half.init_state(2, 37), 0)
        pieces, state = [head.y], head.state or {}
        for t in range(9, 30):
            y, state = half.step(x[:, t], state, torch.tensor(t) if t % 2 else t)
            pieces.append(y[:, None])
        pieces.append(half(x[:, 30:], state, 30).y)
        torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=0, atol=1e-9)

    def test_products_of_heads_and_absorbed_ones_are_rounded(self) -> None:
        x, weight = values((3, 5, 16), 0), values((3, 4, 16), 1)
        with RoundedActivations():
            actual, same = linear_per_head(x, weight), multiplied_elsewhere(x)
        assert torch.equal(actual, torch.einsum("hrk,hjk->hrj", round_activations(x), weight))
        assert torch.equal(same, round_activations(x))
        assert multiplied_elsewhere(x) is x

    @pytest.mark.parametrize("spec", EXAMPLES, ids=str)
    @torch.no_grad()
    def test_no_parameter_is_multiplied_past_the_products(self, spec: Block) -> None:
        mixer = spec.build(20)
        mixer.reset_parameters(torch.Generator().manual_seed(0))
        own = {p.untyped_storage().data_ptr(): name for name, p in mixer.named_parameters()}
        past: set[str] = set()

        class Watching(TorchFunctionMode):
            def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                if func in MULTIPLY:
                    tensors = [a for a in args if isinstance(a, Tensor)]
                    past.update(own.get(t.untyped_storage().data_ptr(), "") for t in tensors)
                return func(*args, **(kwargs or {}))

        x = values((2, 9, 20), 1)
        with Watching():
            state = mixer(x, mixer.init_state(2, 12), 0).state or {}
            assert not past - {""}
            mixer.step(x[:, 0], state, 9)
        # these come after the latents, which are marked as multiplied elsewhere
        assert past - {""} == ({"wk", "wv"} if isinstance(spec, LatentAttention) else set())

    @pytest.mark.parametrize(
        "bits", [Bits(weight=3, activation=8, group=32), Bits(weight=8, activation=8, numbers="float")]
    )
    def test_slices_are_their_copies_and_learn(self, bits: Bits) -> None:
        small, large = (network(bits, bits, bits, d_model=d) for d in (40, 48))
        supernet = Supernet(Space(one_of(small, large)))
        for spec in (small, large):
            subnet, tokens = supernet.subnet(spec), torch.arange(20)[None]
            with torch.no_grad():
                assert torch.equal(subnet(tokens), subnet.extract()(tokens))
            leaves = subnet.leaves()
            subnet(tokens, subnet.rounded(leaves)).logsumexp(-1).mean().backward()
            assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in leaves.values())
