"""DeepSeek-V2 (2024, arXiv:2405.04434): latent attention, and many experts beside shared ones.

Its first layers are dense. Rotated channels lie beside each other there, and in two halves here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foundation.errors import SettingError
from foundation.text import shown
from search_spaces.blocks.deepseek_moe import DeepSeekMoE
from search_spaces.blocks.latent_attention import LatentAttention
from search_spaces.blocks.rotary_scaling import YarnScaling
from search_spaces.families.base import Kind, families
from search_spaces.families.config import Config
from search_spaces.families.keys import Fixed, Key, Same, Width
from search_spaces.families.llama import (
    POSITIONS,
    SILU,
    expert_matrices,
    like_llama,
    mlp,
    with_rope_parameters,
)
from search_spaces.families.stacks import COUNT, Stack
from search_spaces.families.tensors import Joined, One

SCALE, ROPE = "mscale_all_dim", "rope_parameters"


def enlarged(factor: float, share: float) -> float:
    """What YaRN multiplies by at this factor: 0.1 share ln(factor) + 1."""
    return 0.1 * share * math.log(factor) + 1 if factor > 1 else 1.0


@dataclass(frozen=True)
class EnlargedProducts(Key):
    """A number of YaRN that enlarges the products of queries and keys: a scale here."""

    key: str = SCALE

    def read(self, config: Config) -> dict[str, Any]:
        """The scale; None where nothing is enlarged."""
        share = config.get(self.key, None)
        if not share:
            return {"scale": None}
        factor = enlarged(config.number(f"{ROPE}.factor"), config.number(self.key))
        width = config.whole("qk_nope_head_dim", 128) + config.whole("qk_rope_head_dim", 64)
        return {"scale": width**-0.5 * factor * factor}

    def write(self, fields: Mapping[str, Any], d_model: int) -> dict[str, Any]:
        """The number."""
        scale, scaling = fields["scale"], fields["rotary_scaling"]
        if scale is None:
            return {}
        if not isinstance(scaling, YarnScaling) or scaling.factor <= 1:
            raise SettingError(f"scale is {shown(scale)}, which only a stretch by YaRN can say")
        factor = math.sqrt(scale * (fields["head_dim"] + fields["rope_dim"]) ** 0.5)
        return {f"{ROPE}.{self.key}": round((factor - 1) / (0.1 * math.log(scaling.factor)), 12)}


LATENTS = Joined(
    ("mixer.wc", "mixer.wk_turned"),
    "self_attn.kv_a_proj_with_mqa.weight",
    ("C D -> C D", "(2 P) D -> (P 2) D"),
)

HEADS = ("H K D -> H K D", "H (2 P) D -> H (P 2) D")

ATTENTION = Kind(
    LatentAttention,
    (
        Same("num_attention_heads", "num_heads", default=32),
        Same("kv_lora_rank", "kv_rank", default=512),
        Same("q_lora_rank", "q_rank", default=None),
        Same("qk_nope_head_dim", "head_dim", default=128),
        Same("qk_rope_head_dim", "rope_dim", default=64),
        Same("v_head_dim", "value_dim", default=128),
        Same(
            "num_key_value_heads", "num_heads", default=lambda config: config.get("num_attention_heads", 32)
        ),
        Fixed("attention_bias", False),
        *POSITIONS,
        EnlargedProducts(),
    ),
    (
        One("norm", "input_layernorm.weight"),
        Joined(
            ("mixer.wq", "mixer.wq_turned"),
            "self_attn.q_proj.weight",
            HEADS,
            axis=1,
            then="H K D -> (H K) D",
        ),
        One("mixer.wq_down", "self_attn.q_a_proj.weight"),
        One("mixer.q_norm", "self_attn.q_a_layernorm.weight"),
        Joined(
            ("mixer.wq_up", "mixer.wq_up_turned"),
            "self_attn.q_b_proj.weight",
            HEADS,
            axis=1,
            then="H K D -> (H K) D",
        ),
        LATENTS,
        One("mixer.norm", "self_attn.kv_a_layernorm.weight"),
        Joined(
            ("mixer.wk", "mixer.wv"),
            "self_attn.kv_b_proj.weight",
            "H K C -> H K C",
            axis=1,
            then="H K C -> (H K) C",
        ),
        One("mixer.wo", "self_attn.o_proj.weight", "D H V -> D (H V)"),
    ),
    {"rotary": True},
)

AFTER_MIXER = One("norm", "post_attention_layernorm.weight")

SHARED = (
    One("mixer.shared_gated", "mlp.shared_experts.gate_proj.weight", "S F D -> (S F) D"),
    One("mixer.shared_up", "mlp.shared_experts.up_proj.weight", "S F D -> (S F) D"),
    One("mixer.shared_down", "mlp.shared_experts.down_proj.weight", "D S F -> D (S F)"),
)


def experts(*keys: Key, **fixed: Any) -> Kind:
    """Experts beside shared ones of the same width."""
    return Kind(
        DeepSeekMoE,
        (
            Same("n_routed_experts", "num_experts", default=64),
            Same("n_shared_experts", "shared_experts", default=2),
            Same("num_experts_per_tok", "top_k"),
            Same("routed_scaling_factor", "gate_scale", default=1.0),
            Width("moe_intermediate_size"),
            Fixed("norm_topk_prob", False),
            SILU,
            *keys,
        ),
        (
            AFTER_MIXER,
            One("mixer.router", "mlp.gate.weight"),
            *expert_matrices("mlp"),
            *SHARED,
        ),
        {"gate": "softmax", "bias_rate": 0, "shared_gate": False, "shared_expansion": None, **fixed},
    )


@dataclass(frozen=True)
class FirstDense(Stack):
    """The first layers are dense, as many as a key says; all others have experts, chosen as another says."""

    def read(self, config: Config) -> list[str]:
        """The label of every layer."""
        dense, method = config.get("first_k_dense_replace", 0), config.get("topk_method", "greedy")
        if type(dense) is not int or dense < 0:
            raise config.wrong("first_k_dense_replace", dense, "a whole number")
        if method not in ("greedy", "group_limited_greedy"):
            raise config.wrong("topk_method", method, "greedy or group_limited_greedy")
        return ["dense" if index < dense else method for index in range(config.whole(COUNT))]

    def write(self, labels: Sequence[str]) -> dict[str, Any]:
        """Their number, and how experts are chosen."""
        dense = next((i for i, label in enumerate(labels) if label != "dense"), len(labels))
        methods = list(dict.fromkeys(labels[dense:]))
        if len(methods) > 1:
            raise SettingError(f"behind the first {dense} layers all must be {methods[0]}, and are {methods}")
        chosen = {"topk_method": methods[0]} if methods else {}
        return {COUNT: len(labels), "first_k_dense_replace": dense, **chosen}


def modern(config: Config) -> Config:
    """The numbers of YaRN as what they do: to angles and their length, and to products."""
    for name in (
        "head_dim",
        "qk_head_dim",
        "num_experts",
        "num_local_experts",
        "topk_method",
        "n_group",
        "topk_group",
    ):
        config.get(name, None)
    heads = config.whole("num_attention_heads", 32)
    if config.whole("num_key_value_heads", heads) != heads:
        raise config.wrong("num_key_value_heads", config.get("num_key_value_heads"), f"{heads}, as heads are")
    config = with_rope_parameters(config)
    rope = dict(config.get(ROPE))
    length, products = rope.pop("mscale", None), rope.pop(SCALE, None)
    if config.get(f"{ROPE}.rope_type") == "default":
        products = None
    elif length and products and rope.get("attention_factor") is None:
        factor, *shares = (config.number(f"{ROPE}.{name}") for name in ("factor", "mscale", SCALE))
        angles, squares = (enlarged(factor, share) for share in shares)
        rope["attention_factor"] = angles / squares
    return config.with_values(**{ROPE: rope, SCALE: products})


families.add(
    like_llama(
        name="deepseek_v2",
        architecture="DeepseekV2ForCausalLM",
        layers={
            "greedy": (ATTENTION, experts(groups=1, top_groups=1)),
            "group_limited_greedy": (
                ATTENTION,
                experts(Same("n_group", "groups"), Same("topk_group", "top_groups")),
            ),
            "dense": (ATTENTION, mlp(Fixed("mlp_bias", False))),
        },
        stack=FirstDense(),
        modern=modern,
    )
)
