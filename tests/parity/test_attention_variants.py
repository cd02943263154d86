"""Variants of attention against the published families that have them, as transformers computes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from search_spaces.blocks.attention import Attention, AttentionMixer

transformers = pytest.importorskip("transformers")

D_MODEL, TOKENS = 48, 21
HEADS: dict[str, Any] = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 16}
SIZES: dict[str, Any] = {
    "hidden_size": D_MODEL,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_hidden_layers": 2,
    "attn_implementation": "eager",
}

Made = tuple[Attention, nn.Module, nn.Module]
"""Our block, the module that it is like, and what turns positions into angles there."""


def qwen2() -> Made:
    from transformers.models.qwen2 import modeling_qwen2 as them

    sizes = {**SIZES, "hidden_size": 64}  # its head_dim is the quotient
    config = transformers.Qwen2Config(**sizes)
    return (
        Attention(**HEADS, biases="inputs"),
        them.Qwen2Attention(config, 0),
        them.Qwen2RotaryEmbedding(config),
    )


def qwen3() -> Made:
    from transformers.models.qwen3 import modeling_qwen3 as them

    config = transformers.Qwen3Config(**SIZES, rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    return (
        Attention(**HEADS, qk_norm=True, rotary_base=1e6),
        them.Qwen3Attention(config, 0),
        them.Qwen3RotaryEmbedding(config),
    )


def gemma2() -> Made:
    from transformers.models.gemma2 import modeling_gemma2 as them

    config = transformers.Gemma2Config(**SIZES, query_pre_attn_scalar=36, attn_logit_softcapping=0.5)
    return (
        Attention(**HEADS, scale=1 / 6, softcap=0.5),
        them.Gemma2Attention(config, 1),
        them.Gemma2RotaryEmbedding(config),
    )


def gpt_oss() -> Made:
    from transformers.models.gpt_oss import modeling_gpt_oss as them

    config = transformers.GptOssConfig(**SIZES, rope_parameters={"rope_type": "default", "rope_theta": 1e4})
    return (
        Attention(**HEADS, biases="all", sinks=True),
        them.GptOssAttention(config, 1),
        them.GptOssRotaryEmbedding(config),
    )


def phi3() -> Made:
    from transformers.models.phi3 import modeling_phi3 as them

    rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
    config = transformers.Phi3Config(**SIZES, partial_rotary_factor=0.5, rope_parameters=rope)
    return (
        Attention(**HEADS, rotary_share=0.5),
        them.Phi3Attention(config, 0),
        them.Phi3RotaryEmbedding(config),
    )


def fill(module: nn.Module) -> None:
    dice = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=dice) * 0.3)


def taken_over(block: Attention, module: Any, d_model: int) -> AttentionMixer:
    """Our module with the weights of theirs."""
    ours = block.build(d_model)
    assert isinstance(ours, AttentionMixer)
    heads, groups, width = block.num_heads, block.num_kv_heads, block.head_dim
    counts = {"q": heads, "k": groups, "v": groups}
    if hasattr(module, "qkv_proj"):
        pieces = module.qkv_proj.weight.split([count * width for count in counts.values()])
        weights = dict(zip(counts, pieces, strict=True))
    else:
        weights = {name: getattr(module, f"{name}_proj").weight for name in counts}
    with torch.no_grad():
        for name, count in counts.items():
            getattr(ours, f"w{name}").copy_(weights[name].view(count, width, d_model))
            if block.biases != "none":
                bias = getattr(module, f"{name}_proj").bias
                getattr(ours, f"b{name}").copy_(bias.view(count, width, 1))
        ours.wo.copy_(module.o_proj.weight.view(d_model, heads, width))
        if block.biases == "all":
            ours.bo.copy_(module.o_proj.bias)
        if block.qk_norm:
            ours.q_norm.copy_(module.q_norm.weight)
            ours.k_norm.copy_(module.k_norm.weight)
        if block.sinks:
            ours.sinks.copy_(module.sinks[:, None])
    return ours


@pytest.mark.parametrize("made", [qwen2, qwen3, gemma2, gpt_oss, phi3], ids=lambda made: made.__name__)
def test_a_variant_is_that_of_its_family(made: Callable[[], Made]) -> None:
    block, module, rotary = made()
    module = module.eval()
    fill(module)
    d_model = module.o_proj.out_features
    ours = taken_over(block, module, d_model).eval()
    x = torch.randn(2, TOKENS, d_model, generator=torch.Generator().manual_seed(1))
    mask = torch.full((TOKENS, TOKENS), float("-inf")).triu(1)[None, None]
    with torch.no_grad():
        expected = module(x, rotary(x, torch.arange(TOKENS)[None]), mask)[0]
        whole = ours(x).y
        state = ours.init_state(2, TOKENS)
        first = ours(x[:, :13], state, 0)
        assert first.state is not None
        steps: list[Tensor] = []
        state = first.state
        for t in range(13, TOKENS):
            y, state = ours.step(x[:, t], state, t)
            steps.append(y)
    tolerance = 1e-5 * float(expected.abs().max())
    torch.testing.assert_close(whole, expected, atol=tolerance, rtol=0)
    torch.testing.assert_close(
        torch.cat((first.y, torch.stack(steps, 1)), 1), expected, atol=tolerance, rtol=0
    )
