"""Granite 4 (IBM 2025, github.com/ibm-granite/granite-4.0-language-models): Mamba-2 and attention.

Granite's factors are there, too. All layers have experts beside one that serves every token, or a gated
perceptron alone; attention has positions or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.blocks.deepseek_moe import DeepSeekMoE
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.families.base import Kind, families
from search_spaces.families.config import Config
from search_spaces.families.granite import FACTORS, SCALE
from search_spaces.families.keys import Fixed, Ratio, Same, Width, Word
from search_spaces.families.llama import (
    BIASES,
    POSITIONS,
    SHELL,
    SILU,
    UNTIED,
    attention,
    like_llama,
    with_rope_parameters,
)
from search_spaces.families.mamba2 import NO_LIMIT, tensors
from search_spaces.families.stacks import COUNT, Both, Listed, Stack
from search_spaces.families.tensors import Joined, One

MAMBA2 = Kind(
    Mamba2,
    (
        Same("mamba_d_head", "head_dim"),
        Ratio("mamba_expand", ("num_heads", "head_dim"), known=("mamba_d_head",)),
        Same("mamba_n_heads", "num_heads", default=128),
        Same("mamba_d_state", "state_dim", default=256),
        Same("mamba_d_conv", "conv_kernel", default=4),
        Same("mamba_n_groups", "groups", default=1),
        Same("rms_norm_eps", "norm_epsilon", default=1e-6),
        Fixed("mamba_conv_bias", True),
        Fixed("mamba_proj_bias", False),
        SILU,
        NO_LIMIT,
    ),
    (One("norm", "input_layernorm.weight"), *tensors("mamba.")),
    {"norm": "gated", "norm_over": "heads"},
)

ATTENTION = attention(
    *POSITIONS,
    BIASES,
    SCALE,
    Word("position_embedding_type", "rotary", {"rope": True, "nope": False}, default="nope"),
)

NORM = One("norm", "post_attention_layernorm.weight")

MLP = Kind(
    SwiGLU,
    (Width("shared_intermediate_size"), SILU),
    (
        NORM,
        Joined(("mixer.gated", "mixer.up"), "shared_mlp.input_linear.weight", "F D -> F D"),
        One("mixer.down", "shared_mlp.output_linear.weight"),
    ),
)

EXPERTS = Kind(
    DeepSeekMoE,
    (
        Same("num_local_experts", "num_experts", default=8),
        Same("num_experts_per_tok", "top_k", default=2),
        Width("intermediate_size"),
        Width("shared_intermediate_size", "shared_expansion"),
        SILU,
    ),
    (
        NORM,
        One("mixer.router", "block_sparse_moe.router.layer.weight"),
        Joined(("mixer.gated", "mixer.up"), "block_sparse_moe.input_linear.weight", "E F D -> E F D", axis=1),
        One("mixer.down", "block_sparse_moe.output_linear.weight"),
        Joined(("mixer.shared_gated", "mixer.shared_up"), "shared_mlp.input_linear.weight", "1 F D -> F D"),
        One("mixer.shared_down", "shared_mlp.output_linear.weight", "D 1 F -> D F"),
    ),
    {"gate": "renormed", "shared_experts": 1, "bias_rate": 0},
)


WITHOUT_EFFECT = ("mamba_chunk_size", "init_method", "normalization_function")


@dataclass(frozen=True)
class WithExperts(Stack):
    """All layers have experts, or none has: then their number is 0."""

    key: str = "num_local_experts"

    def read(self, config: Config) -> list[str]:
        """The label, as often as there are layers."""
        label = "mlp" if config.get(self.key, 8) == 0 else "experts"
        return [label] * config.whole(COUNT)

    def write(self, labels: Sequence[str]) -> dict[str, Any]:
        """The number where it is 0; experts say theirs themselves."""
        return {self.key: 0} if set(labels) == {"mlp"} else {}


def modern(config: Config) -> Config:
    """The width of the heads of state spaces may follow from others."""
    config = with_rope_parameters(config)
    config.read.update(("intermediate_size", "num_experts_per_tok", *WITHOUT_EFFECT))
    if config.get("mamba_d_head", "auto") == "auto":
        inner = config.whole("mamba_expand", 2) * config.whole("hidden_size")
        config = config.with_values(mamba_d_head=inner // config.whole("mamba_n_heads", 128))
    return config


families.add(
    like_llama(
        name="granitemoehybrid",
        architecture="GraniteMoeHybridForCausalLM",
        shell=(*SHELL, UNTIED, *FACTORS),
        fixed={},
        layers={
            f"{mixer} {channels}": (first, second)
            for mixer, first in {"mamba": MAMBA2, "attention": ATTENTION}.items()
            for channels, second in {"experts": EXPERTS, "mlp": MLP}.items()
        },
        stack=Both(
            Listed(
                "layer_types",
                {
                    "mamba": "mamba",
                    "attention": "attention",
                    "linear_attention": "mamba",
                    "full_attention": "attention",
                },
                default=lambda config: ["linear_attention"] * config.whole(COUNT),
            ),
            WithExperts(),
        ),
        modern=modern,
    )
)
