"""Attention and its linear and sparse kin against independent implementations, whole and at leading slices.

As in `test_parity_transformers`: a reference is built at the size of the slice and given the sliced weights.
It is a module of transformers where one exists, and otherwise the equation of the paper with all pairs of
tokens, in float64, without chunks, gathering or stabilisers. Outputs and gradients of the inputs must agree
to 1e-5 of the largest value, in float32.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block, Mixer
from search_spaces.blocks.based import Based
from search_spaces.blocks.block_sparse_attention import BlockSparseAttention
from search_spaces.blocks.differential_attention import DifferentialAttention
from search_spaces.blocks.latent_attention import LatentAttention
from search_spaces.blocks.linear_attention import LinearAttention
from search_spaces.blocks.performer import Performer
from search_spaces.ops.features import orthogonal_directions

os.environ["HF_HUB_OFFLINE"] = "1"
pytest.importorskip("transformers")
from transformers import DeepseekV2Config, DiffLlamaConfig, JambaConfig
from transformers.models.deepseek_v2.modeling_deepseek_v2 import (
    DeepseekV2Attention,
    DeepseekV2RotaryEmbedding,
)
from transformers.models.diffllama.modeling_diffllama import DiffLlamaAttention, DiffLlamaRotaryEmbedding
from transformers.models.jamba.modeling_jamba import JambaAttention

WIDTH, COUNT = 24, 70
TOLERANCE = 1e-5
Weights = dict[str, Tensor]
Reference = Callable[[Tensor], Tensor]
Maker = Callable[[Any, Weights, int], Reference]


def dice(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def large_weights(spec: Block, d_model: int, seed: int) -> Weights:
    module = spec.build(d_model)
    with torch.no_grad():
        module.reset_parameters(dice(seed))
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=dice(seed + 1)), alpha=0.1)
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def deviation(
    large: Block, small: Block, d_model: int, maker: Maker, count: int = COUNT, batch: int = 2
) -> float:
    """How far `small` at d_model, on slices of the weights of `large` at WIDTH, is from its reference."""
    weights = large_weights(large, WIDTH, seed=0)
    with torch.device("meta"):
        module = small.build(d_model)
    slices = {
        name: weights[name][tuple(slice(size) for size in parameter.shape)]
        for name, parameter in module.named_parameters()
    }
    reference = maker(small, {name: part.contiguous() for name, part in slices.items()}, d_model)
    x = torch.randn(batch, count, d_model, generator=dice(1)).requires_grad_()
    found = functional_call(module, slices, (x,), tie_weights=False).y
    wanted = reference(x)
    mix = torch.randn(wanted.shape, generator=dice(2))
    slopes = [torch.autograd.grad((y * mix).sum(), x)[0] for y in (found, wanted)]
    return max(distance(found, wanted), distance(*slopes))


def distance(found: Tensor, wanted: Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found - wanted).detach().abs().max() / wanted.detach().abs().max())


def put(into: torch.nn.Module, **values: Tensor) -> None:
    """Fill every parameter of a reference, by name; dots are written as two underscores."""
    named = {name.replace("__", "."): value for name, value in values.items()}
    parameters = dict(into.named_parameters())
    assert set(named) == set(parameters), set(named) ^ set(parameters)
    with torch.no_grad():
        for name, value in named.items():
            parameters[name].copy_(value.reshape(parameters[name].shape))


def future(count: int) -> Tensor:
    """A mask to add that hides the future."""
    return torch.full((count, count), float("-inf")).triu(1)[None, None]


def jamba(spec: Attention, weights: Weights, d_model: int) -> Reference:
    config = JambaConfig(
        hidden_size=d_model,
        num_attention_heads=spec.num_heads,
        num_key_value_heads=spec.num_kv_heads,
        attn_implementation="eager",
    )
    config.head_dim = spec.head_dim
    module = JambaAttention(config, 0).eval()
    names = {"q_proj__weight": "wq", "k_proj__weight": "wk", "v_proj__weight": "wv", "o_proj__weight": "wo"}
    put(module, **{name: weights[ours] for name, ours in names.items()})
    return lambda x: module(x, future(x.shape[1]))[0]


def diff_llama(spec: DifferentialAttention, weights: Weights, d_model: int) -> Reference:
    config = DiffLlamaConfig(
        hidden_size=d_model,
        num_attention_heads=2 * spec.num_heads,
        num_key_value_heads=2 * spec.num_kv_heads,
        head_dim=spec.head_dim,
        rms_norm_eps=1e-6,
        attn_implementation="eager",
    )
    module, rotary = DiffLlamaAttention(config, 0).eval(), DiffLlamaRotaryEmbedding(config)
    module.lambda_init = spec.lambda_init
    put(
        module,
        q_proj__weight=weights["wq"],
        k_proj__weight=weights["wk"],
        v_proj__weight=weights["wv"],
        o_proj__weight=weights["wo"],
        lambda_q1=weights["lambda_q"][0],
        lambda_q2=weights["lambda_q"][1],
        lambda_k1=weights["lambda_k"][0],
        lambda_k2=weights["lambda_k"][1],
    )

    def reference(x: Tensor) -> Tensor:
        count = x.shape[1]
        return module(x, rotary(x, torch.arange(count)[None]), future(count))[0]

    return reference


def deepseek(spec: LatentAttention, weights: Weights, d_model: int) -> Reference:
    config = DeepseekV2Config(
        hidden_size=d_model,
        num_attention_heads=spec.num_heads,
        num_key_value_heads=spec.num_heads,
        q_lora_rank=None,
        kv_lora_rank=spec.kv_rank,
        qk_nope_head_dim=spec.head_dim,
        qk_rope_head_dim=spec.rope_dim,
        v_head_dim=spec.head_dim,
        attn_implementation="eager",
    )
    module, rotary = DeepseekV2Attention(config, 0).eval(), DeepseekV2RotaryEmbedding(config)
    # DeepSeek turns neighbouring channels, we the two halves
    order = torch.arange(spec.rope_dim).unflatten(0, (2, -1)).T.flatten()
    turned = {name: weights[name].index_select(-2, order) for name in ("wq_turned", "wk_turned")}
    put(
        module,
        q_proj__weight=torch.cat((weights["wq"], turned["wq_turned"]), dim=1),
        kv_a_proj_with_mqa__weight=torch.cat((weights["wc"], turned["wk_turned"])),
        kv_a_layernorm__weight=weights["norm"],
        kv_b_proj__weight=torch.cat((weights["wk"], weights["wv"]), dim=1),
        o_proj__weight=weights["wo"],
    )
    assert module.kv_a_layernorm.variance_epsilon == 1e-6

    def reference(x: Tensor) -> Tensor:
        count = x.shape[1]
        angles = rotary(x, torch.arange(count)[None])
        return module(x, future(count), position_embeddings=angles)[0]

    return reference


def heads_of(x: Tensor, weight: Tensor) -> Tensor:
    """x [B, T, D] by weight [H, K, D]: [B, H, T, K]."""
    return torch.einsum("btd,hkd->bhtk", x, weight)


def turned(x: Tensor) -> Tensor:
    """Rotary positions as complex numbers."""
    width, time = x.shape[-1], torch.arange(x.shape[-2], dtype=torch.float64)
    angle = time[:, None] * 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    spun = torch.complex(x[..., : width // 2], x[..., width // 2 :]) * torch.polar(
        torch.ones_like(angle), angle
    )
    return torch.cat((spun.real, spun.imag), dim=-1)


def mixed(weighed: Tensor, v: Tensor, wo: Tensor) -> Tensor:
    """The output for any weights [B, H, T, T] that are positive: normalised, times values, merged."""
    weighed = weighed / weighed.sum(-1, keepdim=True)
    return torch.einsum("bhts,bhsk,dhk->btd", weighed, v, wo)


def masked_attention(weights: Weights, visible: Callable[[int, int], bool], rotary: bool) -> Reference:
    """Softmax attention in which token t sees s where `visible(t, s)`."""
    weights = {name: weight.double() for name, weight in weights.items()}

    def reference(x: Tensor) -> Tensor:
        count = x.shape[1]
        q, k, v = (heads_of(x.double(), weights[name]) for name in ("wq", "wk", "wv"))
        if rotary:
            q, k = turned(q), turned(k)
        k, v = (part.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for part in (k, v))
        mask = torch.tensor([[float(s <= t and visible(t, s)) for s in range(count)] for t in range(count)])
        return mixed((q @ k.mT / q.shape[-1] ** 0.5).exp() * mask, v, weights["wo"]).float()

    return reference


def longformer(spec: Attention, weights: Weights, d_model: int) -> Reference:
    window = spec.window or 10**9

    def visible(t: int, s: int) -> bool:
        return s < spec.global_tokens or s in range(t, t - window * spec.dilation, -spec.dilation)

    return masked_attention(weights, visible, spec.rotary)


def big_bird(spec: BlockSparseAttention, weights: Weights, d_model: int) -> Reference:
    """The pattern and its hash once more, with Python's numbers."""
    size, window = spec.block_size, spec.window_blocks
    first, runs = spec.global_blocks, spec.random_blocks

    def noise(block: int, run: int) -> int:
        x = (block * 0x9E3779B1 + (run + 1) * 0x5851F42D) % 2**31
        for multiplier in (0x2C1B3C6D, 0x297A2D39):
            x = (x ^ (x >> 15)) * multiplier % 2**31
        return x ^ (x >> 15)

    def draws(block: int) -> set[int]:
        between = list(range(first, block - window + 1))
        cuts = [run * len(between) // runs for run in range(runs + 1)] if runs else [0]
        parts = [between[low:high] for low, high in pairwise(cuts)]
        return {part[noise(block, run) % len(part)] for run, part in enumerate(parts) if part}

    def visible(t: int, s: int) -> bool:
        query, key = t // size, s // size
        return key < first or key > query - window or key in draws(query)

    return masked_attention(weights, visible, rotary=True)


def linear(spec: LinearAttention, weights: Weights, d_model: int) -> Reference:
    """Equation 8 of arXiv:2006.16236, with all pairs of tokens."""
    weights = {name: weight.double() for name, weight in weights.items()}

    def reference(x: Tensor) -> Tensor:
        q, k, v = (heads_of(x.double(), weights[name]) for name in ("wq", "wk", "wv"))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        return mixed((q @ k.mT).tril(), v, weights["wo"]).float()

    return reference


def performer(spec: Performer, weights: Weights, d_model: int) -> Reference:
    """Equation 5 and lemma 1 of arXiv:2009.14794, with all pairs of tokens and nothing subtracted."""
    weights = {name: weight.double() for name, weight in weights.items()}
    directions = orthogonal_directions(spec.num_features, spec.head_dim)

    def features(x: Tensor) -> Tensor:
        x = x / spec.head_dim**0.25
        return (x @ directions.T - x.square().sum(-1, keepdim=True) / 2).exp() / spec.num_features**0.5

    def reference(x: Tensor) -> Tensor:
        q, k, v = (heads_of(x.double(), weights[name]) for name in ("wq", "wk", "wv"))
        return mixed((features(turned(q)) @ features(turned(k)).mT).tril(), v, weights["wo"]).float()

    return reference


def based(spec: Based, weights: Weights, d_model: int) -> Reference:
    """Equation 4 of arXiv:2402.18668 and a window of softmax attention, with all pairs of tokens."""
    near = {name[5:]: weight for name, weight in weights.items() if name.startswith("near.")}
    window = masked_attention(near, lambda t, s: t - s < spec.window, rotary=True)
    weights = {name: weight.double() for name, weight in weights.items()}

    def reference(x: Tensor) -> Tensor:
        q, k, v = (heads_of(x.double(), weights[name]) for name in ("wq", "wk", "wv"))
        z = q @ k.mT / spec.state_dim**0.5
        far = mixed((1 + z + z.square() / 2).tril(), v, weights["wo"])
        return far.float() + window(x)

    return reference


GROUPED = Attention(num_heads=4, num_kv_heads=2, head_dim=8)
SPARSE = BlockSparseAttention(
    num_heads=4, num_kv_heads=2, head_dim=8, block_size=4, window_blocks=2, global_blocks=1, random_blocks=2
)
FULL: list[tuple[Block, Maker]] = [
    (replace(GROUPED, rotary=False), jamba),
    (replace(GROUPED, num_kv_heads=1, head_dim=7, rotary=False), jamba),
    (replace(GROUPED, window=8, dilation=3), longformer),
    (replace(GROUPED, window=8, global_tokens=5), longformer),
    (replace(GROUPED, window=5, dilation=2, global_tokens=9, rotary=False), longformer),
    (DifferentialAttention(num_heads=3, num_kv_heads=3, head_dim=8), diff_llama),
    (DifferentialAttention(num_heads=4, num_kv_heads=2, head_dim=6, lambda_init=0.35), diff_llama),
    (LatentAttention(num_heads=4, head_dim=8, rope_dim=6, kv_rank=12), deepseek),
    (LatentAttention(num_heads=2, head_dim=4, rope_dim=8, kv_rank=30), deepseek),
    (SPARSE, big_bird),
    (replace(SPARSE, block_size=3, window_blocks=1, global_blocks=0, random_blocks=1), big_bird),
    (replace(SPARSE, random_blocks=0, global_blocks=2), big_bird),
    (LinearAttention(num_heads=3, head_dim=8, state_dim=6), linear),
    (Performer(num_heads=3, head_dim=8, num_features=21), performer),
    (Based(num_heads=2, window_heads=3, head_dim=8, state_dim=5, window=8), based),
]
NAMES = [f"{maker.__name__}-{spec}" for spec, maker in FULL]


@pytest.mark.parametrize(("spec", "maker"), FULL, ids=NAMES)
def test_a_block_is_its_reference(spec: Block, maker: Maker) -> None:
    spec.check(WIDTH)
    assert deviation(spec, spec, WIDTH, maker) < TOLERANCE


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("spec", "maker"), FULL, ids=NAMES)
def test_at_odd_lengths(spec: Block, maker: Maker, batch: int, count: int) -> None:
    assert deviation(spec, spec, WIDTH, maker, count, batch) < TOLERANCE


@pytest.mark.parametrize(("spec", "maker"), FULL[3::3], ids=NAMES[3::3])
def test_at_a_thousand_tokens(spec: Block, maker: Maker) -> None:
    assert deviation(spec, spec, WIDTH, maker, 1000, 1) < TOLERANCE


SLICES: dict[str, tuple[Block, Maker, dict[str, list[int]]]] = {
    "jamba": (
        Attention(num_heads=8, num_kv_heads=4, head_dim=8, rotary=False),
        jamba,
        {"num_heads": [4, 8], "num_kv_heads": [1, 2, 4], "head_dim": [3, 5, 8]},
    ),
    "longformer": (
        Attention(num_heads=8, num_kv_heads=4, head_dim=8, window=7, dilation=2, global_tokens=3),
        longformer,
        {"num_heads": [4, 8], "num_kv_heads": [1, 2], "head_dim": [4, 6], "window": [3, 9]},
    ),
    "diff_llama": (
        DifferentialAttention(num_heads=4, num_kv_heads=4, head_dim=8),
        diff_llama,
        {"num_heads": [2, 4], "num_kv_heads": [1, 2], "head_dim": [2, 4, 6]},
    ),
    "deepseek": (
        LatentAttention(num_heads=4, head_dim=8, rope_dim=8, kv_rank=16),
        deepseek,
        {"num_heads": [1, 3], "head_dim": [2, 6], "rope_dim": [2, 4, 6], "kv_rank": [4, 10]},
    ),
    "big_bird": (
        SPARSE,
        big_bird,
        {"num_heads": [2, 4], "num_kv_heads": [1, 2], "head_dim": [4, 6], "random_blocks": [0, 1, 3]},
    ),
    "linear": (
        LinearAttention(num_heads=4, head_dim=8, state_dim=8),
        linear,
        {"num_heads": [1, 3], "head_dim": [3, 6], "state_dim": [2, 5]},
    ),
    "performer": (
        Performer(num_heads=4, head_dim=8, num_features=16),
        performer,
        {"num_heads": [1, 3], "head_dim": [4, 6], "num_features": [5, 16, 30]},
    ),
    "based": (
        Based(num_heads=3, window_heads=3, head_dim=8, state_dim=6, window=8),
        based,
        {"num_heads": [1, 2], "window_heads": [1, 2], "head_dim": [4, 6], "state_dim": [2, 5]},
    ),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SLICES)
def test_a_slice_is_the_reference_of_its_size(name: str, seed: int) -> None:
    large, maker, sizes = SLICES[name]
    chance = Random(f"{name}{seed}")
    small = replace(large, **{field: chance.choice(values) for field, values in sizes.items()})
    d_model = chance.choice([12, 16, 20])
    # transformers wants d_model to be a multiple of the heads in some configurations
    d_model -= d_model % small.num_heads  # type: ignore[attr-defined]
    small.check(d_model)
    assert deviation(large, small, d_model, maker) < TOLERANCE


def filled(spec: Block, seed: int = 0) -> Mixer:
    module = spec.build(WIDTH)
    with torch.no_grad():
        module.reset_parameters(dice(seed))
    return module


def test_differential_attention_of_lambda_zero_is_softmax_attention() -> None:
    spec = DifferentialAttention(num_heads=2, num_kv_heads=2, head_dim=6, lambda_init=0.8)
    module = filled(spec).double()
    p = dict(module.named_parameters())
    with torch.no_grad():  # exp(0) - exp(log 1.8) + 0.8 = 0
        p["lambda_q"].copy_(torch.tensor([0.0, 1.0])[:, None].expand(2, 6))
        p["lambda_k"].fill_(torch.tensor(1.8, dtype=torch.float64).log() / 6)
    x = torch.randn(2, 33, WIDTH, generator=dice(1), dtype=torch.float64)
    halves = []
    for half in range(2):
        attention = filled(Attention(num_heads=2, num_kv_heads=2, head_dim=6)).double()
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
    wanted = torch.einsum("bthjk,dhjk->btd", normed, p["wo"])
    torch.testing.assert_close(module(x).y, wanted, rtol=1e-9, atol=1e-9)


def test_the_state_of_latent_attention_is_one_latent_and_one_turned_key() -> None:
    spec = LatentAttention(num_heads=16, head_dim=32, rope_dim=8, kv_rank=20)
    state = spec.build(WIDTH).init_state(1, 100)
    assert sum(tensor.numel() for tensor in state.values()) == 100 * (20 + 8)


class TestPerformer:
    @torch.no_grad()
    def test_its_error_falls_with_features(self) -> None:
        """As one over the root of their number, against attention with the same weights."""
        sizes = {"num_heads": 4, "head_dim": 8}
        exact, blind = (filled(Attention(**sizes, num_kv_heads=4)) for _ in range(2))
        blind.get_parameter("wq").zero_()
        x = 0.3 * torch.randn(4, 100, WIDTH, generator=dice(1))
        wanted, errors = exact(x).y, []
        for features in (8, 32, 128, 512, 2048):
            rough = Performer(**sizes, num_features=features).build(WIDTH)
            rough.load_state_dict(exact.state_dict())
            errors.append(float((rough(x).y - wanted).norm() / wanted.norm()))
        for one, next_one in pairwise(errors):
            assert 0.3 < next_one / one < 0.7
        assert errors[-1] < 0.2 * (blind(x).y - wanted).norm() / wanted.norm()

    @pytest.mark.parametrize("scale", [1.0, 30.0])
    @torch.no_grad()
    def test_large_keys_and_queries_stay_finite_and_decode_is_prefill(self, scale: float) -> None:
        """The exponents here reach beyond the range of float32."""
        module = filled(Performer(num_heads=2, head_dim=8, num_features=16))
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
        wanted = performer(
            Performer(num_heads=2, head_dim=8, num_features=16), dict(module.named_parameters()), WIDTH
        )(x)
        if scale == 1.0:
            assert distance(whole, wanted) < TOLERANCE

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
