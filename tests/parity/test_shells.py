"""Whole networks whose shells differ, against the families that have them, as transformers computes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import nn

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gelu_mlp import MLP
from search_spaces.blocks.rotary_scaling import LinearScaling, Llama3Scaling, RotaryScaling, YarnScaling
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.ends import Embedding, Head
from search_spaces.network.model import Model, build
from search_spaces.network.norms.base import Norm
from search_spaces.network.norms.layer_norm import LayerNorm
from search_spaces.network.norms.rms_norm import RMSNorm
from tests.search_spaces.networks import decoded

transformers = pytest.importorskip("transformers")

D_MODEL, VOCAB, TOKENS, PROMPT = 48, 61, 21, 13
SIZES: dict[str, Any] = {
    "hidden_size": D_MODEL,
    "intermediate_size": 2 * D_MODEL,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_hidden_layers": 2,
    "vocab_size": VOCAB,
    "rms_norm_eps": 1e-5,
    "pad_token_id": 0,
    "attn_implementation": "eager",
}
HEADS: dict[str, Any] = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 16}

Made = tuple[Decoder, nn.Module, Mapping[str, str]]
"""Our network, theirs, and the names of norms and other vectors of a layer there, by those here."""


def network(attention: Attention, norm: Norm, activation: str = "silu", **around: Any) -> Decoder:
    layer = Layer(sequence_mixer=attention, channel_mixer=SwiGLU(expansion=2, activation=activation))
    return Decoder(vocab=VOCAB, d_model=D_MODEL, layers=(layer, layer), norm=norm, **around)


PRE_NORM = {
    "sequence_mixer.norm": "input_layernorm.weight",
    "channel_mixer.norm": "post_attention_layernorm.weight",
}


def olmo2() -> Made:
    model = transformers.Olmo2ForCausalLM(transformers.Olmo2Config(**SIZES, tie_word_embeddings=False))
    attention = Attention(**HEADS, qk_norm=True, qk_norm_over="heads", qk_norm_epsilon=1e-5, rotary_base=5e5)
    spec = network(
        attention,
        RMSNorm(epsilon=1e-5, place="after"),
        embedding=Embedding(scale=1.0),
        head=Head(tied=False),
    )
    model.config.rope_parameters["rope_theta"] = 5e5
    model = type(model)(model.config)
    return (
        spec,
        model,
        {
            "sequence_mixer.norm_after": "post_attention_layernorm.weight",
            "channel_mixer.norm_after": "post_feedforward_layernorm.weight",
            "sequence_mixer.mixer.q_norm_heads": "self_attn.q_norm.weight",
            "sequence_mixer.mixer.k_norm_heads": "self_attn.k_norm.weight",
        },
    )


def gemma2() -> Made:
    config = transformers.Gemma2Config(
        **SIZES,
        sliding_window=6,
        query_pre_attn_scalar=36,
        attn_logit_softcapping=0.5,
        final_logit_softcapping=0.7,
    )
    whole = Attention(**HEADS, scale=1 / 6, softcap=0.5)
    near = Attention(**HEADS, scale=1 / 6, softcap=0.5, window=6)
    spec = network(whole, RMSNorm(epsilon=1e-5, place="both"), activation="gelu_tanh", head=Head(softcap=0.7))
    windows = {"sliding_attention": near, "full_attention": whole}
    kinds = [windows[kind] for kind in config.layer_types]
    assert set(kinds) == {whole, near}
    layers = tuple(Layer(sequence_mixer=kind, channel_mixer=spec.layers[0].channel_mixer) for kind in kinds)
    names = {
        "sequence_mixer.norm": "input_layernorm.weight",
        "sequence_mixer.norm_after": "post_attention_layernorm.weight",
        "channel_mixer.norm": "pre_feedforward_layernorm.weight",
        "channel_mixer.norm_after": "post_feedforward_layernorm.weight",
    }
    around = Decoder(vocab=VOCAB, d_model=D_MODEL, layers=layers, norm=spec.norm, head=spec.head)
    return around, transformers.Gemma2ForCausalLM(config), names


def granite() -> Made:
    config = transformers.GraniteConfig(
        **SIZES,
        embedding_multiplier=12.0,
        logits_scaling=8.0,
        residual_multiplier=0.22,
        attention_multiplier=0.1,
        tie_word_embeddings=True,
    )
    spec = network(
        Attention(**HEADS, scale=0.1),
        RMSNorm(epsilon=1e-5, residual_scale=0.22),
        embedding=Embedding(scale=12.0),
        head=Head(scale=1 / 8),
    )
    return spec, transformers.GraniteForCausalLM(config), PRE_NORM


def llama(rope: dict[str, Any], scaling: RotaryScaling) -> Made:
    config = transformers.LlamaConfig(
        **SIZES, rope_parameters={"rope_theta": 1e4, **rope}, max_position_embeddings=64
    )
    spec = network(
        Attention(**HEADS, rotary_scaling=scaling),
        RMSNorm(epsilon=1e-5),
        embedding=Embedding(scale=1.0),
        head=Head(tied=False),
    )
    return spec, transformers.LlamaForCausalLM(config), PRE_NORM


def linear() -> Made:
    return llama({"rope_type": "linear", "factor": 4.0}, LinearScaling(factor=4.0))


def llama3() -> Made:
    rope = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
    return llama({"rope_type": "llama3", "factor": 8.0, **rope}, Llama3Scaling(factor=8.0, length=16))


def yarn() -> Made:
    rope = {"beta_fast": 4.0, "beta_slow": 0.5, "original_max_position_embeddings": 16}
    ours = YarnScaling(factor=4.0, length=16, quick=4.0, slow=0.5)
    return llama({"rope_type": "yarn", "factor": 4.0, **rope}, ours)


def yarn_of_broken_pairs() -> Made:
    rope = {"beta_fast": 4.0, "beta_slow": 0.5, "original_max_position_embeddings": 16}
    rope |= {"truncate": False, "attention_factor": 1.5}
    ours = YarnScaling(factor=4.0, length=16, quick=4.0, slow=0.5, whole_pairs=False, enlarged=1.5)
    return llama({"rope_type": "yarn", "factor": 4.0, **rope}, ours)


def fill(module: nn.Module) -> None:
    dice = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=dice)
            parameter.copy_(noise * 0.2 if parameter.dim() > 1 else 0.6 + 0.3 * noise)


def taken_over(spec: Decoder, theirs: nn.Module, vectors: Mapping[str, str]) -> Model:
    """Our network with the weights of theirs."""
    ours, given = build(spec), dict(theirs.named_parameters())
    gain = 1.0 if type(theirs).__name__.startswith("Gemma") else 0.0
    taken = {"embedding": given["model.embed_tokens.weight"], "norm": gain + given["model.norm.weight"]}
    if not spec.head.tied:
        taken["head"] = given["lm_head.weight"]
    matrices = {
        **{f"sequence_mixer.mixer.w{name}": f"self_attn.{name}_proj.weight" for name in "qkvo"},
        "channel_mixer.mixer.gated": "mlp.gate_proj.weight",
        "channel_mixer.mixer.up": "mlp.up_proj.weight",
        "channel_mixer.mixer.down": "mlp.down_proj.weight",
    }
    for index in range(len(spec.layers)):
        for name, other in {**matrices, **vectors}.items():
            value = given[f"model.layers.{index}.{other}"]
            taken[f"layers.{index}.{name}"] = value + (0.0 if name in matrices else gain)
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameter.copy_(taken.pop(name).view(parameter.shape))
    assert not taken
    return ours.eval()


@pytest.mark.parametrize(
    "made",
    [olmo2, gemma2, granite, linear, llama3, yarn, yarn_of_broken_pairs],
    ids=lambda made: made.__name__,
)
def test_a_network_is_that_of_its_family(made: Callable[[], Made]) -> None:
    spec, theirs, vectors = made()
    theirs = theirs.eval()
    fill(theirs)
    check_equal(taken_over(spec, theirs, vectors), theirs)


def test_halves_side_by_side_are_those_of_gpt_neox() -> None:
    sizes = {name: SIZES[name] for name in ("hidden_size", "intermediate_size", "num_attention_heads")}
    config = transformers.GPTNeoXConfig(
        **sizes,
        num_hidden_layers=2,
        vocab_size=VOCAB,
        hidden_act="gelu_new",
        attn_implementation="eager",
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
    )
    theirs = transformers.GPTNeoXForCausalLM(config).eval()
    fill(theirs)
    attention = Attention(num_heads=4, num_kv_heads=4, head_dim=12, biases="all", rotary_share=0.5)
    perceptron = MLP(expansion=2, activation="gelu_tanh", biases=True)
    layer = Layer(sequence_mixer=attention, channel_mixer=perceptron, parallel=True)
    ours = build(
        Decoder(
            vocab=VOCAB,
            d_model=D_MODEL,
            layers=(layer, layer),
            norm=LayerNorm(),
            embedding=Embedding(scale=1.0),
            head=Head(tied=False),
        )
    ).eval()
    given = {name.removeprefix("gpt_neox."): value for name, value in theirs.named_parameters()}
    taken = {
        "embedding": given["embed_in.weight"],
        "head": given["lm_head.weight"],
        "norm": given["final_layer_norm.weight"],
        "norm_bias": given["final_layer_norm.bias"],
    }
    for index in range(2):
        path, sequence, channels = (
            f"layers.{index}.{name}" for name in ("attention.", "sequence_mixer.", "channel_mixer.")
        )
        for kind, ours_w, ours_b in (("weight", "w", ""), ("bias", "b", "_bias")):
            # theirs come head by head: queries, keys and values of each
            pieces = given[f"{path}query_key_value.{kind}"].unflatten(0, (4, 3, 12)).unbind(1)
            taken |= {f"{sequence}mixer.{ours_w}{n}": v for n, v in zip("qkv", pieces, strict=True)}
            taken[f"{sequence}mixer.{ours_w}o"] = given[f"{path}dense.{kind}"]
            for half, norm in ((sequence, "input_layernorm"), (channels, "post_attention_layernorm")):
                taken[f"{half}norm{ours_b}"] = given[f"layers.{index}.{norm}.{kind}"]
            for name, other in (("up", "dense_h_to_4h"), ("down", "dense_4h_to_h")):
                taken[f"{channels}mixer.{name}{ours_b}"] = given[f"layers.{index}.mlp.{other}.{kind}"]
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameter.copy_(taken.pop(name).reshape(parameter.shape))
    assert not taken
    check_equal(ours, theirs)


def check_equal(ours: Model, theirs: Any) -> None:
    """Logits of a prefill, of steps behind a prompt, and of both at once."""
    tokens = torch.randint(1, VOCAB, (2, TOKENS), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(tokens, use_cache=False).logits
        pieces, whole = decoded(ours, tokens, PROMPT), ours(tokens)
    tolerance = 1e-5 * float(expected.abs().max())
    torch.testing.assert_close(whole, expected, atol=tolerance, rtol=0)
    torch.testing.assert_close(pieces, expected, atol=tolerance, rtol=0)
