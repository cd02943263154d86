"""gpt-oss (OpenAI 2025, arXiv:2508.10925): sinks, a window in every other layer, experts with biases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from search_spaces.blocks.moe import MoE
from search_spaces.families.base import Kind, families
from search_spaces.families.config import Config
from search_spaces.families.keys import Same, Width
from search_spaces.families.llama import (
    BIASES,
    LAYER_TYPES,
    POSITIONS,
    SILU,
    attention,
    like_llama,
    with_rope_parameters,
)
from search_spaces.families.stacks import COUNT
from search_spaces.families.tensors import Joined, One

SINKS = (One("mixer.sinks", "self_attn.sinks", "H 1 -> H"),)

KEYS = (*POSITIONS, replace(BIASES, default=True))

EXPERTS = Kind(
    MoE,
    (
        Same("num_local_experts", "num_experts"),
        Same("num_experts_per_tok", "top_k"),
        Width("intermediate_size"),
        SILU,  # what it is called; the class computes the function below whatever it says
    ),
    (
        One("norm", "post_attention_layernorm.weight"),
        One("mixer.router", "mlp.router.weight"),
        One("mixer.router_bias", "mlp.router.bias"),
        Joined(
            ("mixer.gated", "mixer.up"),
            "mlp.experts.gate_up_proj",
            "E F D -> E D F 1",
            axis=3,
            then="E D F 2 -> E D (F 2)",
        ),
        Joined(
            ("mixer.gated_bias", "mixer.up_bias"),
            "mlp.experts.gate_up_proj_bias",
            "E F 1 -> E F 1",
            axis=2,
            then="E F 2 -> E (F 2)",
        ),
        One("mixer.down", "mlp.experts.down_proj", "E D F -> E F D"),
        One("mixer.down_bias", "mlp.experts.down_proj_bias", "E D 1 -> E D"),
    ),
    {"activation": "clamped_silu", "biases": True},
)


def types_of_layers(config: Config) -> list[Any]:
    """A window in every other layer, beginning with the first."""
    return ["full_attention" if index % 2 else "sliding_attention" for index in range(config.whole(COUNT))]


def modern(config: Config) -> Config:
    """The number of experts has two names."""
    count = config.get("num_local_experts", config.get("num_experts", None))
    return with_rope_parameters(config.with_values(num_local_experts=count), base=150000.0)


families.add(
    like_llama(
        name="gpt_oss",
        architecture="GptOssForCausalLM",
        layers={
            "full": (attention(*KEYS, rules=SINKS, sinks=True, window=None), EXPERTS),
            "sliding": (
                attention(*KEYS, Same("sliding_window", "window"), rules=SINKS, sinks=True),
                EXPERTS,
            ),
        },
        stack=replace(LAYER_TYPES, default=types_of_layers),
        modern=modern,
    )
)
