"""Attention and its relatives beyond their references: identities, special cases, errors of features."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
import torch

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block
from search_spaces.blocks.differential_attention import DifferentialAttention
from search_spaces.blocks.latent_attention import LatentAttention
from search_spaces.blocks.linear_attention import LinearAttention
from search_spaces.blocks.performer import Performer
from search_spaces.blocks.retention import Retention
from search_spaces.ops.decay_attention import constant_decays
from search_spaces.ops.features import orthogonal_directions
from search_spaces.parity import TOLERANCE
from search_spaces.references import put
from search_spaces.references.attention import future, heads_of, masked_attention, turned
from search_spaces.references.linear_attention import performer
from tests.blocks.filled import dice, filled

os.environ["HF_HUB_OFFLINE"] = "1"

WIDTH, COUNT = 24, 70


@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
@pytest.mark.parametrize("head_dim", [5, 8])
@torch.no_grad()
def test_attention_without_positions_equals_jambas(num_kv_heads: int, head_dim: int) -> None:
    pytest.importorskip("transformers")
    from transformers import JambaConfig
    from transformers.models.jamba.modeling_jamba import JambaAttention

    module = filled(Attention(num_heads=4, num_kv_heads=num_kv_heads, head_dim=head_dim, rotary=False), WIDTH)
    config = JambaConfig(
        hidden_size=WIDTH,
        num_attention_heads=4,
        num_key_value_heads=num_kv_heads,
        attn_implementation="eager",
    )
    config.head_dim = head_dim
    jamba = JambaAttention(config, 0).eval()
    put(jamba, **{f"{name[1]}_proj__weight": value for name, value in module.named_parameters()})
    x = torch.randn(2, COUNT, WIDTH, generator=dice(1))
    expected = jamba(x, future(COUNT))[0]
    assert (module(x).y - expected).abs().max() < TOLERANCE * expected.abs().max()


@torch.no_grad()
def test_a_dilated_window_sees_every_third_token_and_the_global_ones() -> None:
    spec = Attention(num_heads=4, num_kv_heads=2, head_dim=8, window=5, dilation=3, global_tokens=9)
    module, x = (
        filled(spec, WIDTH).double(),
        torch.randn(2, COUNT, WIDTH, generator=dice(1), dtype=torch.float64),
    )

    def visible(t: int, s: int) -> bool:
        return s < 9 or s in range(t, t - 15, -3)

    expected = masked_attention(dict(module.named_parameters()), visible, rotary=True)(x)
    torch.testing.assert_close(module(x).y, expected, rtol=1e-9, atol=1e-9)


def test_differential_attention_of_lambda_zero_is_softmax_attention() -> None:
    spec = DifferentialAttention(num_heads=2, num_kv_heads=2, head_dim=6, lambda_init=0.8)
    module = filled(spec, WIDTH).double()
    p = dict(module.named_parameters())
    with torch.no_grad():  # exp(0) - exp(log 1.8) + 0.8 = 0
        p["lambda_q"].copy_(torch.tensor([0.0, 1.0])[:, None].expand(2, 6))
        p["lambda_k"].fill_(torch.tensor(1.8, dtype=torch.float64).log() / 6)
    x = torch.randn(2, 33, WIDTH, generator=dice(1), dtype=torch.float64)
    halves = []
    for half in range(2):
        attention = filled(Attention(num_heads=2, num_kv_heads=2, head_dim=6), WIDTH).double()
        q = dict(attention.named_parameters())
        with torch.no_grad():
            for name in ("wq", "wk"):
                q[name].copy_(p[name][0])
            q["wv"].copy_(p["wv"][half])
        attend = attention.get_parameter("wo")
        with torch.no_grad():  # let the heads through unmerged: d_model of 24 holds both of 6
            attend.zero_().flatten(1)[:12].copy_(torch.eye(12))
        halves.append(attention(x).y[..., :12].unflatten(-1, (2, 6)))
    y = torch.stack(halves, dim=-2)
    normed = y / (y.square().mean((-2, -1), keepdim=True) + 1e-6).sqrt() * (1 - 0.8)
    expected = torch.einsum("bthjk,dhjk->btd", normed, p["wo"])
    torch.testing.assert_close(module(x).y, expected, rtol=1e-9, atol=1e-9)


def test_the_state_of_latent_attention_is_one_latent_and_one_turned_key() -> None:
    spec = LatentAttention(num_heads=16, head_dim=32, rope_dim=8, kv_rank=20)
    state = spec.build(WIDTH).init_state(1, 100)
    assert sum(tensor.numel() for tensor in state.values()) == 100 * (20 + 8)


@pytest.mark.parametrize("decay", ["narrow", "wide"])
@torch.no_grad()
def test_performer_with_decays_estimates_attention_with_a_linear_bias(decay: str) -> None:
    spec = Performer(num_heads=2, head_dim=8, num_features=4096, decay=decay)
    module, x = filled(spec, WIDTH), 0.3 * torch.randn(2, 40, WIDTH, generator=dice(1))
    p = dict(module.named_parameters())
    q, k, v = (heads_of(x, p[name]) for name in ("wq", "wk", "wv"))
    time = torch.arange(40)
    slope = constant_decays(decay, 2, x)[:, None, None]
    scores = turned(q) @ turned(k).mT / 8**0.5 + slope * (time[:, None] - time)
    weights = scores.masked_fill(time > time[:, None], float("-inf")).softmax(-1)
    expected = torch.einsum("bhts,bhsk,dhk->btd", weights.float(), v, p["wo"])
    assert (module(x).y - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize(
    "spec", [LinearAttention(decay="fast"), Performer(decay="slow"), Retention(decay="none")]
)
def test_an_unknown_decay_is_refused(spec: Block) -> None:
    with pytest.raises(IllegalArchitecture, match="decay must be one of"):
        spec.check(WIDTH)


class TestPerformer:
    @torch.no_grad()
    def test_the_error_falls_with_the_number_of_features(self) -> None:
        """As one over the root of their number, against attention with the same weights."""
        sizes = {"num_heads": 4, "head_dim": 8}
        exact, blind = (filled(Attention(**sizes, num_kv_heads=4), WIDTH) for _ in range(2))
        blind.get_parameter("wq").zero_()
        x = 0.3 * torch.randn(4, 100, WIDTH, generator=dice(1))
        expected, errors = exact(x).y, []
        for features in (8, 32, 128, 512, 2048):
            rough = Performer(**sizes, num_features=features, decay="none").build(WIDTH)
            rough.load_state_dict(exact.state_dict())
            errors.append(float((rough(x).y - expected).norm() / expected.norm()))
        for error, next_error in pairwise(errors):
            assert 0.3 < next_error / error < 0.7
        assert errors[-1] < 0.2 * (blind(x).y - expected).norm() / expected.norm()

    @pytest.mark.parametrize("decay", ["none", "narrow", "wide"])
    @pytest.mark.parametrize("scale", [1.0, 30.0])
    @torch.no_grad()
    def test_large_keys_and_queries_stay_finite_and_decode_is_prefill(self, scale: float, decay: str) -> None:
        """The exponents here reach beyond the range of float32."""
        spec = Performer(num_heads=2, head_dim=8, num_features=16, decay=decay)
        module = filled(spec, WIDTH)
        for name in ("wq", "wk"):
            module.get_parameter(name).mul_(scale)
        # keys grow, so that the largest exponent so far does too
        x = torch.randn(2, 130, WIDTH, generator=dice(1)) * torch.linspace(0.1, 1, 130)[:, None]
        whole = module(x).y
        assert whole.isfinite().all()
        state, outputs = module.init_state(2, 130), []
        for t in range(130):
            y, state = module.step(x[:, t], state, t)
            outputs.append(y)
        torch.testing.assert_close(torch.stack(outputs, dim=1), whole, rtol=1e-3, atol=1e-4)
        state, falling = module.init_state(2, 130), x.flip(1)
        pieces = []
        for first, last in ((0, 1), (1, 70), (70, 130)):
            mixed_piece = module(falling[:, first:last], state, first)
            pieces.append(mixed_piece.y)
            state = mixed_piece.state
        torch.testing.assert_close(torch.cat(pieces, dim=1), module(falling).y, rtol=1e-3, atol=1e-4)
        expected = performer(spec, dict(module.named_parameters()), WIDTH)(x)
        if scale == 1.0:
            assert (whole - expected).abs().max() < TOLERANCE * expected.abs().max()

    @torch.no_grad()
    def test_a_large_key_that_has_faded_does_not_suppress_later_ones(self) -> None:
        """It counts e^100 times as much as any other, beyond float32; then it fades to nothing."""
        spec = Performer(num_heads=1, head_dim=8, num_features=64)
        module = filled(spec, WIDTH)
        x = torch.randn(1, 401, WIDTH, generator=dice(1))
        k = heads_of(x, module.get_parameter("wk"))[0, 0]
        x = 25 * x / k.norm(dim=-1)[:, None]  # the exponent of a key is about -|k|^2 / (2 sqrt(8))
        x[:, 0] *= 0.01
        module.get_parameter("wq").mul_(0.01)
        expected = performer(spec, dict(module.named_parameters()), WIDTH)(x)[:, -100:]
        actual = module(x).y[:, -100:]
        assert (actual - expected).abs().max() < 1e-3 * expected.abs().max()
        state, outputs = module.init_state(1, 401), []
        for t in range(401):
            y, state = module.step(x[:, t], state, t)
            outputs.append(y)
        torch.testing.assert_close(torch.stack(outputs[-100:], dim=1), actual, rtol=1e-3, atol=1e-3)

    def test_directions_are_orthogonal_normal_and_constant(self) -> None:
        before = torch.get_rng_state()
        orthogonal_directions.cache_clear()
        with torch.device("meta"), torch.inference_mode():
            w = orthogonal_directions(20, 8)
        assert w.device.type == "cpu"
        assert not w.is_inference()
        assert torch.equal(before, torch.get_rng_state())
        for run in w.split(8):
            products = run @ run.T
            assert (products - products.diagonal().diag()).abs().max() < 1e-12
        orthogonal_directions.cache_clear()
        assert torch.equal(w, orthogonal_directions(20, 8))
        many = orthogonal_directions(8000, 8)
        assert abs(float(many.square().sum(-1).mean()) - 8) < 0.15
        assert float(many.mean(0).abs().max()) < 0.05
        covariance = many.T @ many / 8000
        assert float((covariance - torch.eye(8)).abs().max()) < 0.06
