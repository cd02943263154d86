"""OLMo hybrid (Ai2 2026): gated delta nets, and in every fourth layer OLMo 2's attention.

Norms are behind mixers in layers with attention, as in OLMo 2, and in front of them in all others. Attention
may have no positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foundation.errors import SettingError
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.families.base import Kind, families
from search_spaces.families.config import REQUIRED, Config
from search_spaces.families.keys import Key, Same
from search_spaces.families.llama import (
    BIASES,
    POSITIONS,
    SILU,
    attention,
    like_llama,
    mlp,
    with_rope_parameters,
)
from search_spaces.families.olmo2 import EPSILON, OVER_HEADS
from search_spaces.families.stacks import COUNT, Listed, Stack
from search_spaces.families.tensors import Each, One

SECOND = "feedforward_layer_norm"
"""Behind attention this norm may have another name: transformers itself writes both alike."""

DELTA_NET = Kind(
    GatedDeltaNet,
    (
        Same("linear_num_value_heads", "num_heads"),
        Same("linear_num_key_heads", "num_key_heads"),
        Same("linear_value_head_dim", "head_dim"),
        Same("linear_key_head_dim", "state_dim"),
        Same("linear_conv_kernel_dim", "conv_kernel", default=4),
        Same("linear_allow_neg_eigval", "negative_eigenvalues", default=True),
        SILU,
    ),
    (
        One("norm", "attention_layer_norm.weight"),
        Each("mixer.wqk", ("linear_attn.q_proj.weight", "linear_attn.k_proj.weight"), "G N D -> (G N) D"),
        One("mixer.wv", "linear_attn.v_proj.weight", "H P D -> (H P) D"),
        One("mixer.wz", "linear_attn.g_proj.weight", "H P D -> (H P) D"),
        One("mixer.wb", "linear_attn.b_proj.weight"),
        One("mixer.wdt", "linear_attn.a_proj.weight"),
        Each(
            "mixer.conv_qk",
            ("linear_attn.q_conv1d.weight", "linear_attn.k_conv1d.weight"),
            "G N k -> (G N) 1 k",
            flip=True,
        ),
        One("mixer.conv_v", "linear_attn.v_conv1d.weight", "H P k -> (H P) 1 k", flip=True),
        One("mixer.dt_bias", "linear_attn.dt_bias"),
        One("mixer.a_log", "linear_attn.A_log"),
        One("mixer.norm", "linear_attn.o_norm.weight"),
        One("mixer.wo", "linear_attn.o_proj.weight", "D H P -> D (H P)"),
    ),
    {"norm_epsilon": 1e-5},
)


def attending(*keys: Key, rotary: bool) -> tuple[Kind, Kind]:
    """A layer with attention."""
    mixer = attention(
        *keys,
        BIASES,
        EPSILON,
        norms=(One("norm_after", f"{SECOND}.weight"),),
        rules=OVER_HEADS,
        qk_norm=True,
        qk_norm_over="heads",
        rotary=rotary,
        window=None,
    )
    return mixer, mlp(norms=(One("norm_after", "post_feedforward_layernorm.weight"),))


def types_of_layers(config: Config) -> list[Any]:
    """Attention in every fourth layer; in the last one of a network of less than four."""
    count = config.whole(COUNT)
    kinds = ["full_attention" if index % 4 == 3 else "linear_attention" for index in range(count)]
    return kinds if count > 3 else [*kinds[:-1], "full_attention"]


WITHOUT = {"rope_parameters": {"rope_type": "default", "rope_theta": None}}
"""No positions; without any value, there are those with the usual base."""


@dataclass(frozen=True)
class Hybrid(Stack):
    """A list says which layers have attention, and the base of rotary positions whether that has any."""

    types: Listed = Listed(
        "layer_types",
        {"full_attention": "attention", "linear_attention": "delta"},
        default=types_of_layers,
    )

    def read(self, config: Config) -> list[str]:
        """The label of every layer."""
        positions = "turned" if config.get("rope_parameters.rope_theta", None) is not None else "still"
        return [positions if label == "attention" else label for label in self.types.read(config)]

    def write(self, labels: Sequence[str]) -> dict[str, Any]:
        """The list; without positions, that there are none."""
        positions = {label for label in labels if label != "delta"}
        if len(positions) > 1:
            raise SettingError("either all layers with attention have rotary positions, or none")
        if not positions or "delta" not in labels:
            raise SettingError("the class wants both layers with attention and delta nets")
        known = self.types.write(["delta" if label == "delta" else "attention" for label in labels])
        return known | (WITHOUT if "still" in positions else {})


STARTS = ("a_log_min", "a_log_max", "dt_min", "dt_max", "dt_init_floor")
"""Keys of what parameters start with."""


def modern(config: Config) -> Config:
    """Older keys of positions, unless it is said that there are none: by a base that is null."""
    config.read.update(f"linear_{name}" for name in STARTS)
    rope = config.get("rope_parameters", None)
    without = isinstance(rope, dict) and rope.get("rope_theta", REQUIRED) is None
    return config if without else with_rope_parameters(config)


families.add(
    like_llama(
        name="olmo_hybrid",
        architecture="OlmoHybridForCausalLM",
        layers={
            "delta": (DELTA_NET, mlp(norms=(One("norm", f"{SECOND}.weight"),))),
            "turned": attending(*POSITIONS, rotary=True),
            "still": attending(rotary=False),
        },
        options={"turned": {"norm_place": "after"}, "still": {"norm_place": "after"}},
        stack=Hybrid(),
        spellings={"post_attention_layernorm.weight": f"{SECOND}.weight"},
        modern=modern,
    )
)
