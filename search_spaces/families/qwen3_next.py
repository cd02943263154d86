"""Qwen3-Next (2025): gated delta nets, gated attention every fourth layer, experts beside a shared one.

Its gains are stored as their distance from one, but for those inside of delta nets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from foundation.errors import SettingError
from search_spaces.blocks.deepseek_moe import DeepSeekMoE
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.families.base import Kind, families
from search_spaces.families.config import Config
from search_spaces.families.keys import Fixed, Same, Width
from search_spaces.families.llama import (
    POSITIONS,
    RULES,
    SILU,
    attention,
    expert_matrices,
    like_llama,
    mlp,
    with_rope_parameters,
)
from search_spaces.families.qwen3 import EPSILON, NORMS
from search_spaces.families.stacks import COUNT, Both, Listed, Stack
from search_spaces.families.tensors import InTurns, Joined, One

GAIN = One("norm", "input_layernorm.weight", plus=1.0)

DELTA_NET = Kind(
    GatedDeltaNet,
    (
        Same("linear_num_value_heads", "num_heads", default=32),
        Same("linear_num_key_heads", "num_key_heads", default=16),
        Same("linear_value_head_dim", "head_dim", default=128),
        Same("linear_key_head_dim", "state_dim", default=128),
        Same("linear_conv_kernel_dim", "conv_kernel", default=4),
        Same("rms_norm_eps", "norm_epsilon", default=1e-6),
        SILU,
    ),
    (
        GAIN,
        InTurns(
            ("mixer.wqk", "mixer.wv", "mixer.wz"),
            "linear_attn.in_proj_qkvz.weight",
            ("2 G N D -> (G 2 N) D", "H P D -> (H P) D", "H P D -> (H P) D"),
            ("mixer.wqk", 1),
        ),
        InTurns(
            ("mixer.wb", "mixer.wdt"),
            "linear_attn.in_proj_ba.weight",
            ("H D -> H D", "H D -> H D"),
            ("mixer.wqk", 1),
        ),
        Joined(
            ("mixer.conv_qk", "mixer.conv_v"),
            "linear_attn.conv1d.weight",
            ("2 G N k -> (2 G N) 1 k", "H P k -> (H P) 1 k"),
            flip=True,
        ),
        One("mixer.dt_bias", "linear_attn.dt_bias"),
        One("mixer.a_log", "linear_attn.A_log"),
        One("mixer.norm", "linear_attn.norm.weight"),
        One("mixer.wo", "linear_attn.out_proj.weight", "D H P -> D (H P)"),
    ),
    {"negative_eigenvalues": False},
)

GATED_QUERIES = Joined(
    ("mixer.wq", "mixer.wz"), "self_attn.q_proj.weight", "H K D -> H K D", axis=1, then="H K D -> (H K) D"
)
"""Of each head its query, and the gate of what it reads."""

ATTENTION = attention(
    *POSITIONS,
    Same("rope_parameters.partial_rotary_factor", "rotary_share"),
    EPSILON,
    Fixed("attention_bias", False),
    norms=(GAIN,),
    inputs=(
        GATED_QUERIES,
        One("mixer.wk", "self_attn.k_proj.weight", "G K D -> (G K) D"),
        One("mixer.wv", "self_attn.v_proj.weight", "G V D -> (G V) D"),
    ),
    rules=tuple(replace(rule, plus=1.0) for rule in NORMS),
    qk_norm=True,
    output_gate=True,
    window=None,
)

AFTER_MIXER = One("norm", "post_attention_layernorm.weight", plus=1.0)

SHARED = (
    One("mixer.shared_gated", "mlp.shared_expert.gate_proj.weight", "1 F D -> F D"),
    One("mixer.shared_up", "mlp.shared_expert.up_proj.weight", "1 F D -> F D"),
    One("mixer.shared_down", "mlp.shared_expert.down_proj.weight", "D 1 F -> D F"),
    One("mixer.shared_gate", "mlp.shared_expert_gate.weight"),
)


def experts(gate: str) -> Kind:
    """Experts with such a gate, beside a shared one."""
    return Kind(
        DeepSeekMoE,
        (
            Same("num_experts", "num_experts", default=512),
            Same("num_experts_per_tok", "top_k", default=10),
            Width("moe_intermediate_size"),
            Width("shared_expert_intermediate_size", "shared_expansion"),
            SILU,
        ),
        (
            AFTER_MIXER,
            One("mixer.router", "mlp.gate.weight"),
            *expert_matrices("mlp"),
            *SHARED,
        ),
        {"gate": gate, "bias_rate": 0, "shared_experts": 1, "shared_gate": True},
    )


@dataclass(frozen=True)
class SomeDense(Stack):
    """Layers with experts, but for listed ones and those between a number of steps, which are dense.

    One key says whether gates are renormed over the chosen experts.
    """

    def read(self, config: Config) -> list[str]:
        """The label of every layer."""
        step, dense = config.whole("decoder_sparse_step", 1), config.get("mlp_only_layers", [])
        gates = config.get("norm_topk_prob", True)
        if not isinstance(dense, list):
            raise config.wrong("mlp_only_layers", dense, "a list of layers")
        if not isinstance(gates, bool):
            raise config.wrong("norm_topk_prob", gates, "true or false")
        sparse = "renormed" if gates else "softmax"
        return [
            "dense" if index in dense or (index + 1) % step else sparse
            for index in range(config.whole(COUNT))
        ]

    def write(self, labels: Sequence[str]) -> dict[str, Any]:
        """The list, and the key of the gates."""
        gates = sorted({label for label in labels if label != "dense"})
        if len(gates) > 1:
            raise SettingError("norm_topk_prob has one value for all layers, whose gates differ")
        return {
            COUNT: len(labels),
            "decoder_sparse_step": 1,
            "mlp_only_layers": [index for index, label in enumerate(labels) if label == "dense"],
            "norm_topk_prob": gates != ["softmax"],
        }


def types_of_layers(config: Config) -> list[Any]:
    """Attention in every fourth layer, unless another number is said."""
    every = config.whole("full_attention_interval", 4)
    return [
        "linear_attention" if (index + 1) % every else "full_attention"
        for index in range(config.whole(COUNT))
    ]


def modern(config: Config) -> Config:
    """A quarter of the channels is turned where no other share is said."""
    for name in ("intermediate_size", "num_local_experts", "attention_bias"):
        config.get(name, None)
    share = config.get("partial_rotary_factor", 0.25)
    return with_rope_parameters(config.with_values(partial_rotary_factor=share))


families.add(
    like_llama(
        name="qwen3_next",
        architecture="Qwen3NextForCausalLM",
        rules=(RULES[0], replace(RULES[1], plus=1.0), RULES[2]),
        layers={
            f"{mixer} {channels}": (first, second)
            for mixer, first in {"attention": ATTENTION, "delta": DELTA_NET}.items()
            for channels, second in {
                "renormed": experts("renormed"),
                "softmax": experts("softmax"),
                "dense": mlp(norms=(AFTER_MIXER,)),
            }.items()
        },
        stack=Both(
            Listed(
                "layer_types",
                {"full_attention": "attention", "linear_attention": "delta"},
                default=types_of_layers,
                instead_of=("full_attention_interval",),
            ),
            SomeDense(),
        ),
        modern=modern,
    )
)
