"""Blocks against independent implementations, at full size and at leading slices of larger weights.

A reference is built at the size of the slice and given the sliced weights, so this shows the mathematics and
the slicing at once. Outputs and gradients of the inputs must agree to 1e-5 of the largest value, in float32.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block
from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU

os.environ["HF_HUB_OFFLINE"] = "1"
pytest.importorskip("transformers")
from transformers import (
    Lfm2Config,
    LlamaConfig,
    Mamba2Config,
    MixtralConfig,
    RecurrentGemmaConfig,
)
from transformers.models.lfm2.modeling_lfm2 import Lfm2ShortConv
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaMLP,
    LlamaRotaryEmbedding,
)
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer
from transformers.models.mixtral.modeling_mixtral import (
    MixtralSparseMoeBlock,
    load_balancing_loss_func,
)
from transformers.models.recurrent_gemma.modeling_recurrent_gemma import (
    RecurrentGemmaRecurrentBlock,
)

WIDTH, COUNT = 24, 70
Weights = dict[str, Tensor]
Reference = Callable[[Tensor], Tensor]


def large_weights(spec: Block, d_model: int, seed: int) -> Weights:
    module, dice = spec.build(d_model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        module.reset_parameters(dice)
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=dice), alpha=0.1)
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def assert_parity(
    large: Block, small: Block, d_model: int, reference_of: Callable[[Block, Weights, int], Reference]
) -> None:
    """`small` at d_model, on slices of the weights of `large` at WIDTH, is the reference of that size."""
    weights = large_weights(large, WIDTH, seed=0)
    with torch.device("meta"):
        module = small.build(d_model)
    slices = {
        name: weights[name][tuple(slice(size) for size in parameter.shape)]
        for name, parameter in module.named_parameters()
    }
    reference = reference_of(small, {name: part.contiguous() for name, part in slices.items()}, d_model)
    x = torch.randn(2, COUNT, d_model, generator=torch.Generator().manual_seed(1)).requires_grad_()
    found = functional_call(module, slices, (x,), tie_weights=False).y
    wanted = reference(x)
    mix = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(2))
    assert_close(found, wanted)
    (slope,), (wanted_slope,) = (torch.autograd.grad((y * mix).sum(), x) for y in (found, wanted))
    assert_close(slope, wanted_slope)


def assert_close(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()


def put(into: torch.nn.Module, **values: Tensor) -> None:
    """Fill every parameter of a reference, by name; dots are written as two underscores."""
    named = {name.replace("__", "."): value for name, value in values.items()}
    parameters = dict(into.named_parameters())
    assert set(named) == set(parameters), set(named) ^ set(parameters)
    with torch.no_grad():
        for name, value in named.items():
            parameters[name].copy_(value.reshape(parameters[name].shape))


def llama(spec: Attention, weights: Weights, d_model: int) -> Reference:
    config = LlamaConfig(
        hidden_size=d_model,
        num_attention_heads=spec.num_heads,
        num_key_value_heads=spec.num_kv_heads,
        head_dim=spec.head_dim,
        attn_implementation="eager",
    )
    module, rotary = LlamaAttention(config, 0).eval(), LlamaRotaryEmbedding(config)
    names = {"q_proj__weight": "wq", "k_proj__weight": "wk", "v_proj__weight": "wv", "o_proj__weight": "wo"}
    put(module, **{name: weights[ours] for name, ours in names.items()})

    def reference(x: Tensor) -> Tensor:
        age = torch.arange(x.shape[1])[:, None] - torch.arange(x.shape[1])
        hidden = (age < 0) | (age >= (spec.window or x.shape[1]))
        mask = torch.zeros(age.shape).masked_fill(hidden, float("-inf"))
        return module(x, rotary(x, torch.arange(x.shape[1])[None]), mask[None, None])[0]

    return reference


@pytest.mark.parametrize("window", [None, 16])
@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
def test_attention_is_llamas(num_kv_heads: int, window: int | None) -> None:
    spec = Attention(num_heads=4, num_kv_heads=num_kv_heads, head_dim=8, window=window)
    assert_parity(spec, spec, WIDTH, llama)


@pytest.mark.parametrize("seed", range(3))
def test_slices_of_attention_are_llamas(seed: int) -> None:
    dice = Random(seed)
    heads = dice.choice([2, 4])
    small = Attention(num_heads=heads, num_kv_heads=heads // 2, head_dim=dice.choice([4, 6]))
    assert_parity(Attention(num_heads=8, head_dim=8), small, dice.choice([12, 20]), llama)


def mamba2(spec: Mamba2, weights: Weights, d_model: int) -> Reference:
    inner = spec.num_heads * spec.head_dim
    config = Mamba2Config(
        hidden_size=inner,
        num_heads=spec.num_heads,
        head_dim=spec.head_dim,
        state_size=spec.state_dim,
        expand=1,
        n_groups=1,
        conv_kernel=spec.conv_kernel,
        chunk_size=16,
        num_hidden_layers=1,
    )
    module = Mamba2Mixer(config, 0).eval()
    # the configuration wants the inner width to be a multiple of d_model, the module does not
    module.in_proj = torch.nn.Linear(d_model, module.in_proj.out_features, bias=False)
    module.out_proj = torch.nn.Linear(inner, d_model, bias=False)
    weights = {name: weight.flatten(0, -2) for name, weight in weights.items() if weight.ndim > 1} | {
        name: weight.flatten() for name, weight in weights.items() if weight.ndim == 1 or "bias" in name
    }
    put(
        module,
        in_proj__weight=torch.cat([weights[name] for name in ("wz", "wx", "wbc", "wdt")]),
        conv1d__weight=torch.cat([weights[name] for name in ("conv_x", "conv_bc")]).flip(-1),
        conv1d__bias=torch.cat([weights[name] for name in ("conv_x_bias", "conv_bc_bias")]),
        dt_bias=weights["dt_bias"],
        A_log=weights["a_log"],
        D=weights["skip"],
        norm__weight=weights["norm"],
        out_proj__weight=weights["wo"],
    )
    return lambda x: module(x)


@pytest.mark.parametrize("taps", [3, 4])
def test_mamba2_is_mamba2(taps: int) -> None:
    spec = Mamba2(num_heads=4, head_dim=8, state_dim=16, conv_kernel=taps)
    assert_parity(spec, spec, WIDTH, mamba2)


@pytest.mark.parametrize("seed", range(3))
def test_slices_of_mamba2_are_mamba2(seed: int) -> None:
    dice = Random(seed)
    sizes = {
        "num_heads": dice.choice([1, 2, 3]),
        "head_dim": dice.choice([4, 6]),
        "state_dim": dice.choice([5, 8]),
    }
    large = Mamba2(num_heads=4, head_dim=8, state_dim=16)
    assert_parity(large, replace(large, **sizes), dice.choice([12, 16]), mamba2)


def recurrent_gemma(spec: RGLRU, weights: Weights, d_model: int) -> Reference:
    inner = spec.num_heads * spec.head_dim
    config = RecurrentGemmaConfig(
        hidden_size=d_model,
        lru_width=inner,
        num_attention_heads=spec.num_heads,
        conv1d_width=spec.conv_kernel,
        num_hidden_layers=1,
    )
    module = RecurrentGemmaRecurrentBlock(config, 0).eval()
    put(
        module,
        linear_y__weight=weights["wy"],
        linear_y__bias=torch.zeros(inner),  # RecurrentGemma adds biases that the paper does not have
        linear_x__weight=weights["wx"],
        linear_x__bias=torch.zeros(inner),
        linear_out__weight=weights["wo"],
        linear_out__bias=torch.zeros(d_model),
        conv_1d__weight=weights["conv"].flip(-1),
        conv_1d__bias=weights["conv_bias"],
        rg_lru__recurrent_param=weights["decay"],
        rg_lru__input_gate_weight=weights["input_gate"].mT,
        rg_lru__input_gate_bias=weights["input_bias"],
        rg_lru__recurrent_gate_weight=weights["decay_gate"].mT,
        rg_lru__recurrent_gate_bias=weights["decay_bias"],
    )

    def reference(x: Tensor) -> Tensor:
        return module(x, torch.arange(x.shape[1])[None].expand(x.shape[0], -1), None, use_cache=False)[0]

    return reference


def test_rglru_is_recurrent_gemmas() -> None:
    spec = RGLRU(num_heads=3, head_dim=8)
    assert_parity(spec, spec, WIDTH, recurrent_gemma)


@pytest.mark.parametrize("seed", range(3))
def test_slices_of_rglru_are_recurrent_gemmas(seed: int) -> None:
    dice = Random(seed)
    small = RGLRU(num_heads=dice.choice([1, 2, 3]), head_dim=dice.choice([4, 6]))
    assert_parity(RGLRU(num_heads=4, head_dim=8), small, dice.choice([12, 17]), recurrent_gemma)


def lfm2(spec: ShortConv, weights: Weights, d_model: int) -> Reference:
    config = Lfm2Config(
        hidden_size=d_model,
        conv_L_cache=spec.kernel,
        conv_bias=False,
        num_hidden_layers=1,
        layer_types=["conv"],
    )
    module = Lfm2ShortConv(config, 0).eval()
    put(
        module,
        conv__weight=weights["conv"].flip(-1),
        in_proj__weight=weights["w_in"],
        out_proj__weight=weights["wo"],
    )
    return lambda x: module(x)


@pytest.mark.parametrize(("kernel", "d_model"), [(4, WIDTH), (3, WIDTH), (2, 11), (4, 17)])
def test_short_conv_is_lfm2s(kernel: int, d_model: int) -> None:
    assert_parity(ShortConv(kernel=4), ShortConv(kernel=kernel), d_model, lfm2)


def llama_mlp(spec: SwiGLU, weights: Weights, d_model: int) -> Reference:
    config = LlamaConfig(
        hidden_size=d_model,
        intermediate_size=spec.hidden(d_model),
        num_attention_heads=1,
        num_key_value_heads=1,
    )
    module = LlamaMLP(config)
    put(
        module,
        gate_proj__weight=weights["gated"],
        up_proj__weight=weights["up"],
        down_proj__weight=weights["down"],
    )
    return lambda x: module(x)


@pytest.mark.parametrize(("expansion", "d_model"), [(3, WIDTH), (2.5, WIDTH), (1, 11), (2, 17)])
def test_swiglu_is_llamas(expansion: float, d_model: int) -> None:
    assert_parity(SwiGLU(expansion=3), SwiGLU(expansion=expansion), d_model, llama_mlp)


def mixtral(spec: MoE, weights: Weights, d_model: int) -> Reference:
    config = MixtralConfig(
        hidden_size=d_model,
        intermediate_size=spec.hidden(d_model),
        num_local_experts=spec.num_experts,
        num_experts_per_tok=spec.top_k,
    )
    config._experts_implementation = "eager"
    module = MixtralSparseMoeBlock(config).eval()
    put(
        module,
        gate__weight=weights["router"],
        experts__gate_up_proj=torch.cat((weights["gated"], weights["up"]), dim=1),
        experts__down_proj=weights["down"],
    )
    return lambda x: module(x)


@pytest.mark.parametrize(
    ("num_experts", "top_k", "expansion", "d_model"),
    [(4, 1, 2, WIDTH), (4, 2, 2, WIDTH), (3, 2, 1, 17), (2, 1, 1.5, 11)],
)
def test_moe_is_mixtrals(num_experts: int, top_k: int, expansion: float, d_model: int) -> None:
    small = MoE(num_experts=num_experts, top_k=top_k, expansion=expansion)
    assert_parity(MoE(num_experts=4, expansion=2), small, d_model, mixtral)


def test_the_balancing_loss_is_switchs() -> None:
    spec = MoE(num_experts=4, top_k=2, balance=0.5)
    weights = large_weights(spec, WIDTH, seed=0)
    module, x = spec.build(WIDTH), torch.randn(2, COUNT, WIDTH, generator=torch.Generator().manual_seed(1))
    loss = functional_call(module, weights, (x,)).loss
    logits = F.linear(x.flatten(0, 1), weights["router"])
    # transformers counts a token once per choice; ours are shares of all choices, so that balance is 1
    wanted = load_balancing_loss_func((logits,), num_experts=4, top_k=2) / 2
    torch.testing.assert_close(loss, 0.5 * wanted)


def gated_linear_attention(spec: GatedLinearAttention, weights: Weights, d_model: int) -> Reference:
    """Equations (3) and section 4.4 of arXiv:2312.06635, one head and one token at a time."""

    def reference(x: Tensor) -> Tensor:
        merged = torch.zeros(())
        for h in range(spec.num_heads):
            q = x @ weights["wq"][h].T / spec.state_dim**0.5
            k, v = x @ weights["wk"][h].T, x @ weights["wv"][h].T
            gate = x @ weights["gate_in"].T @ weights["gate_out"][h].T + weights["gate_bias"][h]
            alpha = torch.sigmoid(gate) ** (1 / 16)
            memory, outputs = torch.zeros(x.shape[0], spec.state_dim, spec.head_dim), []
            for t in range(x.shape[1]):
                memory = alpha[:, t, :, None] * memory + k[:, t, :, None] * v[:, t, None, :]
                outputs.append((q[:, t, :, None] * memory).sum(1))
            o = torch.stack(outputs, dim=1)
            normed = o / (o.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weights["norm"]
            z = x @ weights["wz"][h].T
            merged = merged + (normed * z * torch.sigmoid(z)) @ weights["wo"][:, h].T
        return merged

    return reference


@pytest.mark.parametrize(
    ("num_heads", "head_dim", "state_dim", "d_model"),
    [(3, 8, 16, WIDTH), (2, 6, 5, WIDTH), (1, 8, 16, 11), (3, 4, 7, 17)],
)
def test_gated_linear_attention_is_its_recurrence(
    num_heads: int, head_dim: int, state_dim: int, d_model: int
) -> None:
    large = GatedLinearAttention(num_heads=3, head_dim=8, state_dim=16)
    small = GatedLinearAttention(num_heads=num_heads, head_dim=head_dim, state_dim=state_dim)
    assert_parity(large, small, d_model, gated_linear_attention)
