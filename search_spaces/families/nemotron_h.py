"""Nemotron-H (NVIDIA 2025, arXiv:2504.03624): Mamba-2, perceptrons, and attention in a few places.

Every sublayer is a layer of its own there. Here a perceptron is the second half of the layer whose mixer
stands before it. Layers of experts are not known: theirs have no gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foundation.errors import SettingError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gelu_mlp import MLP
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.families.base import Family, Kind, families
from search_spaces.families.config import Config
from search_spaces.families.keys import Fixed, Free, Groups, Same, Width, Word
from search_spaces.families.llama import HEADS, PLAIN, projections
from search_spaces.families.mamba import RULES
from search_spaces.families.mamba2 import NO_LIMIT, tensors
from search_spaces.families.stacks import Stack
from search_spaces.families.tensors import One

NORM = One("norm", "norm.weight")

MAMBA2 = Kind(
    Mamba2,
    (
        Same("mamba_num_heads", "num_heads", default=128),
        Same("mamba_head_dim", "head_dim", default=64),
        Same("ssm_state_size", "state_dim", default=128),
        Same("conv_kernel", "conv_kernel", default=4),
        Groups("n_groups", default=8),
        Same("layer_norm_epsilon", "norm_epsilon", default=1e-5),
        Fixed("mamba_hidden_act", "silu"),
        Fixed("use_bias", False),
        Fixed("use_conv_bias", True),
        NO_LIMIT,
    ),
    (NORM, *tensors()),
    {"norm": "gated"},
)

ATTENTION = Kind(
    Attention,
    (
        *HEADS[:-1],
        Same("head_dim", "head_dim", default=128),
        Fixed("sliding_window", None),
        Fixed("attention_bias", False),
    ),
    (NORM, *projections("mixer.")),
    {"rotary": False},
)

PERCEPTRON = Kind(
    MLP,
    (
        Width("intermediate_size"),
        Word(
            "mlp_hidden_act",
            "activation",
            {
                "relu2": "relu2",
                "relu": "relu",
                "silu": "silu",
                "gelu": "gelu",
                "gelu_pytorch_tanh": "gelu_tanh",
            },
            default="relu2",
        ),
        Same("mlp_bias", "biases", default=False),
    ),
    (
        NORM,
        One("mixer.up", "mixer.up_proj.weight"),
        One("mixer.up_bias", "mixer.up_proj.bias"),
        One("mixer.down", "mixer.down_proj.weight"),
        One("mixer.down_bias", "mixer.down_proj.bias"),
    ),
)

LETTERS = {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe"}
"""The letters of a pattern, as older configurations have it."""

WITHOUT_EFFECT = (
    *("num_hidden_layers", "expand", "use_mamba_kernels", "mamba_proj_bias", "num_logits_to_keep"),
    *("mamba_ssm_cache_dtype", "hidden_dropout", "num_nextn_predict_layers", "mtp_layers_block_type"),
    *("n_group", "topk_group", "n_routed_experts", "n_shared_experts", "num_experts_per_tok"),
    *("moe_intermediate_size", "moe_latent_size", "moe_shared_expert_intermediate_size"),
    *("moe_shared_expert_overlap", "norm_topk_prob", "routed_scaling_factor"),
)
"""What is said by other keys, or speaks of experts or of layers that predict further tokens."""

OLDER = {"mamba": "linear_attention", "attention": "full_attention"}


@dataclass(frozen=True)
class Halves(Stack):
    """A word for every sublayer: a mixer begins a layer of ours, and a perceptron ends it."""

    key: str = "layers_block_type"

    def read(self, config: Config) -> list[str]:
        """The labels of our layers."""
        listed = config.get(self.key)
        if not isinstance(listed, list) or not listed:
            raise config.wrong(self.key, listed, "a list of layers")
        labels: list[str] = []
        for index, given in enumerate(listed):
            word = OLDER.get(given, given) if isinstance(given, str) else given
            if word == "mlp" and labels and " " not in labels[-1]:
                labels[-1] += " mlp"
            elif word in ("linear_attention", "full_attention"):
                labels.append(word)
            else:
                rule = "linear_attention, full_attention, or mlp behind one of them"
                also = " (experts without gates are not known here)" if word == "moe" else ""
                raise config.wrong(f"{self.key}.{index}", given, rule + also)
        return labels

    def write(self, labels: Sequence[str]) -> dict[str, Any]:
        """The words of all sublayers.

        Raises:
            SettingError: there is no layer.
        """
        if not labels:
            raise SettingError(f"{self.key} needs a layer")
        return {self.key: [word for label in labels for word in label.split(" ")]}


def modern(config: Config) -> Config:
    """Layers may be said by the letters of a pattern; the number of layers is that of the words."""
    config.read.update(WITHOUT_EFFECT)
    pattern = config.get("hybrid_override_pattern", None)
    if config.get("layers_block_type", None) is None and isinstance(pattern, str):
        words = [LETTERS.get(letter, letter) for letter in pattern]
        config = config.with_values(layers_block_type=words)
    return config


families.add(
    Family(
        name="nemotron_h",
        architecture="NemotronHForCausalLM",
        shell=(
            Same("vocab_size", "vocab"),
            Same("hidden_size", "d_model"),
            Same("layer_norm_epsilon", "norm.epsilon", default=1e-5),
            Fixed("tie_word_embeddings", False),
            Free("max_position_embeddings", 32768),
        ),
        rules=RULES,
        fixed={**PLAIN, "head.tied": False},
        layers={
            "linear_attention": (MAMBA2,),
            "full_attention": (ATTENTION,),
            "linear_attention mlp": (MAMBA2, PERCEPTRON),
            "full_attention mlp": (ATTENTION, PERCEPTRON),
        },
        stack=Halves(),
        prefix="backbone.layers.{}.",
        apart=True,
        modern=modern,
    )
)
