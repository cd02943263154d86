"""LFM2 (Liquid AI 2025, arXiv:2511.23404): gated short convolutions, and attention in some layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.families.base import Kind, families
from search_spaces.families.config import Config
from search_spaces.families.keys import Fixed, Free, Same, Width
from search_spaces.families.llama import (
    APART,
    HEADS,
    POSITIONS,
    RULES,
    UNTIED,
    like_llama,
    with_rope_parameters,
)
from search_spaces.families.stacks import COUNT, Listed
from search_spaces.families.tensors import One

NORM = One("norm", "operator_norm.weight")

CONVOLUTION = Kind(
    ShortConv,
    (Same("conv_L_cache", "kernel", default=3), Fixed("conv_bias", False)),
    (
        NORM,
        One("mixer.w_in", "conv.in_proj.weight", "3 C D -> (3 C) D"),
        One("mixer.conv", "conv.conv.weight", "C k -> C 1 k", flip=True),
        One("mixer.wo", "conv.out_proj.weight"),
    ),
)

ATTENTION = Kind(
    Attention,
    (*HEADS, *POSITIONS, Same("norm_eps", "qk_norm_epsilon", default=1e-5)),
    (
        NORM,
        *APART,
        One("mixer.wo", "self_attn.out_proj.weight", "D H V -> D (H V)"),
        One("mixer.q_norm", "self_attn.q_layernorm.weight"),
        One("mixer.k_norm", "self_attn.k_layernorm.weight"),
    ),
    {"qk_norm": True},
)

MLP = Kind(
    SwiGLU,
    (Width("intermediate_size"), Fixed("block_auto_adjust_ff_dim", False)),
    (
        One("norm", "ffn_norm.weight"),
        One("mixer.gated", "feed_forward.w1.weight"),
        One("mixer.up", "feed_forward.w3.weight"),
        One("mixer.down", "feed_forward.w2.weight"),
    ),
)

ADJUSTED = ("block_ff_dim", "block_auto_adjust_ff_dim", "block_ffn_dim_multiplier", "block_multiple_of")


def types_of_layers(config: Config) -> list[Any]:
    """Older configurations list the layers with attention."""
    count = config.whole(COUNT)
    having = config.get("full_attn_idxs", list(range(count)))
    return ["full_attention" if index in having else "conv" for index in range(count)]


def modern(config: Config) -> Config:
    """The hidden width as it is: configurations may say one of which two thirds are taken, and rounded up."""
    config = with_rope_parameters(config, base=1e6)
    config.read.update(ADJUSTED)
    hidden = config.get("block_ff_dim", config.whole("intermediate_size", 12288))
    if config.get("block_auto_adjust_ff_dim", True):
        multiple = config.whole("block_multiple_of", 256)
        hidden = int(config.number("block_ffn_dim_multiplier", 1.0) * int(2 * hidden / 3))
        hidden = multiple * -(-hidden // multiple)
    tied = config.get("tie_word_embeddings", config.get("tie_embedding", True))
    return config.with_values(
        intermediate_size=hidden, block_auto_adjust_ff_dim=False, block_ff_dim=None, tie_word_embeddings=tied
    )


families.add(
    like_llama(
        name="lfm2",
        architecture="Lfm2ForCausalLM",
        shell=(
            Same("vocab_size", "vocab"),
            Same("hidden_size", "d_model"),
            Same("norm_eps", "norm.epsilon", default=1e-5),
            Free("max_position_embeddings", 32768),
            UNTIED,
        ),
        rules=(RULES[0], replace(RULES[1], tensor="model.embedding_norm.weight"), RULES[2]),
        layers={"conv": (CONVOLUTION, MLP), "attention": (ATTENTION, MLP)},
        stack=Listed(
            "layer_types",
            {"full_attention": "attention", "conv": "conv"},
            default=types_of_layers,
            instead_of=("full_attn_idxs",),
        ),
        modern=modern,
    )
)
