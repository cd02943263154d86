"""RecurrentGemma (Botev et al. 2024, arXiv:2404.07839): RG-LRU, and attention over a window in some layers.

The models of Griffin (De et al. 2024, arXiv:2402.19427) with Gemma's ends: gains are stored as their distance
from one, and logits are capped. The scale of embeddings is the root of the width as bfloat16 rounds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.families.base import Kind, families
from search_spaces.families.config import Config
from search_spaces.families.gemma2 import TIED
from search_spaces.families.keys import Fixed, Key, Product, Same, Width, Word
from search_spaces.families.llama import (
    HEADS,
    RULES,
    SHELL,
    like_llama,
    projections,
    with_rope_parameters,
)
from search_spaces.families.stacks import COUNT, Listed
from search_spaces.families.tensors import One

NORM = One("norm", "temporal_pre_norm.weight", plus=1.0)
GELU = Fixed("hidden_activation", "gelu_pytorch_tanh")


@dataclass(frozen=True)
class RoundedRoot(Key):
    """The scale of embeddings, which follows from the width."""

    key: str = "hidden_size"

    def read(self, config: Config) -> dict[str, Any]:
        """The root as bfloat16 holds it."""
        root = torch.tensor(config.whole(self.key) ** 0.5, dtype=torch.bfloat16)
        return {"embedding.scale": float(root)}

    def write(self, fields: Mapping[str, Any], d_model: int) -> dict[str, Any]:
        """Nothing: another scale would come back otherwise."""
        return {}


RECURRENT = Kind(
    RGLRU,
    (
        Product("lru_width", ("head_dim", "num_heads"), known=("num_attention_heads",)),
        Same("num_attention_heads", "num_heads", default=10),
        Same("conv1d_width", "conv_kernel", default=4),
        GELU,
    ),
    (
        NORM,
        One("mixer.wx", "temporal_block.linear_x.weight", "H K D -> (H K) D"),
        One("mixer.wy", "temporal_block.linear_y.weight", "H K D -> (H K) D"),
        One("mixer.wo", "temporal_block.linear_out.weight", "D H K -> D (H K)"),
        One("mixer.x_bias", "temporal_block.linear_x.bias", "H K -> (H K)"),
        One("mixer.y_bias", "temporal_block.linear_y.bias", "H K -> (H K)"),
        One("mixer.out_bias", "temporal_block.linear_out.bias"),
        One("mixer.conv", "temporal_block.conv_1d.weight", "H K k -> (H K) 1 k", flip=True),
        One("mixer.conv_bias", "temporal_block.conv_1d.bias", "H K -> (H K)"),
        One("mixer.decay", "temporal_block.rg_lru.recurrent_param", "H K -> (H K)"),
        One("mixer.input_gate", "temporal_block.rg_lru.input_gate_weight", "H J K -> H K J"),
        One("mixer.input_bias", "temporal_block.rg_lru.input_gate_bias"),
        One("mixer.decay_gate", "temporal_block.rg_lru.recurrent_gate_weight", "H J K -> H K J"),
        One("mixer.decay_bias", "temporal_block.rg_lru.recurrent_gate_bias"),
    ),
    {"biases": True},
)

ATTENTION = Kind(
    Attention,
    (
        *HEADS[:-1],
        Product("hidden_size", ("head_dim", "num_heads"), known=("num_attention_heads",)),
        Word("attention_bias", "biases", {False: "output", True: "all"}, default=False),
        Same("attention_window_size", "window", default=2048),
        Same("rope_parameters.rope_theta", "rotary_base"),
        Same("rope_parameters.partial_rotary_factor", "rotary_share", default=0.5),
        Fixed("rope_parameters.rope_type", "default"),
    ),
    (NORM, *projections("temporal_block.")),
)

MLP = Kind(
    SwiGLU,
    (Width("intermediate_size", times=2), GELU),
    (
        One("norm", "channel_pre_norm.weight", plus=1.0),
        *(
            One(f"mixer.{ours}", f"mlp_block.{theirs}_proj.weight")
            for ours, theirs in (("gated", "gate"), ("up", "up"), ("down", "down"))
        ),
        *(
            One(f"mixer.{ours}_bias", f"mlp_block.{theirs}_proj.bias")
            for ours, theirs in (("gated", "gate"), ("up", "up"), ("down", "down"))
        ),
    ),
    {"activation": "gelu_tanh", "biases": True},
)


WITHOUT_EFFECT = (
    *("w_init_variance_scale", "final_w_init_variance_scale", "head_dim", "sliding_window"),
    *("embeddings_scale_by_sqrt_dim", "_block_types"),
)


def modern(config: Config) -> Config:
    """Kinds of layers are said once for all, and repeated; half of the channels of a head are turned."""
    config.read.update(WITHOUT_EFFECT)
    config = with_rope_parameters(
        config.with_values(partial_rotary_factor=config.get("partial_rotary_factor", 0.5))
    )
    count, types = config.whole(COUNT), config.get("block_types", ["recurrent", "recurrent", "attention"])
    if isinstance(types, list) and types:
        types = (types * count)[:count]
    return config.with_values(
        block_types=types, lru_width=config.whole("lru_width", config.whole("hidden_size"))
    )


families.add(
    like_llama(
        name="recurrent_gemma",
        architecture="RecurrentGemmaForCausalLM",
        shell=(
            *SHELL[:-1],
            TIED,
            RoundedRoot(),
            Same("logits_soft_cap", "head.softcap", default=30.0),
        ),
        rules=(RULES[0], replace(RULES[1], tensor="model.final_norm.weight", plus=1.0), RULES[2]),
        fixed={},
        layers={"recurrent": (RECURRENT, MLP), "attention": (ATTENTION, MLP)},
        stack=Listed("block_types", {"recurrent": "recurrent", "attention": "attention"}),
        modern=modern,
    )
)
