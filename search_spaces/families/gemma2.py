"""Gemma 2 (Gemma team 2024, arXiv:2408.00118): norms on both sides, soft caps, and windows every other layer.

Its gains are stored as their distance from one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from search_spaces.families.base import families
from search_spaces.families.config import Config
from search_spaces.families.keys import Fixed, Root, Same
from search_spaces.families.llama import (
    BIASES,
    LAYER_TYPES,
    POSITIONS,
    RULES,
    SHELL,
    UNTIED,
    attention,
    like_llama,
    mlp,
)
from search_spaces.families.stacks import COUNT
from search_spaces.families.tensors import One

TIED = replace(UNTIED, default=True)
CAP = Same("final_logit_softcapping", "head.softcap", default=None)
WINDOW = Same("sliding_window", "window")
KEYS = (
    BIASES,
    Root("query_pre_attn_scalar", "scale"),
    Same("attn_logit_softcapping", "softcap", default=None),
    Fixed("use_bidirectional_attention", False),
)

AROUND_ATTENTION = (
    One("norm", "input_layernorm.weight", plus=1.0),
    One("norm_after", "post_attention_layernorm.weight", plus=1.0),
)

MLP = mlp(
    norms=(
        One("norm", "pre_feedforward_layernorm.weight", plus=1.0),
        One("norm_after", "post_feedforward_layernorm.weight", plus=1.0),
    ),
    function=Fixed("hidden_activation", "gelu_pytorch_tanh"),
    activation="gelu_tanh",
)

ENDS = (RULES[0], replace(RULES[1], plus=1.0), RULES[2])
"""Embedding, last norm and head."""

BOTH = {"norm.place": "both"}


def types_of_layers(config: Config) -> list[Any]:
    """A window in every other layer, beginning with the first."""
    return ["full_attention" if index % 2 else "sliding_attention" for index in range(config.whole(COUNT))]


families.add(
    like_llama(
        name="gemma2",
        architecture="Gemma2ForCausalLM",
        shell=(*SHELL, TIED, CAP),
        rules=ENDS,
        fixed=BOTH,
        layers={
            "full": (attention(*POSITIONS, *KEYS, norms=AROUND_ATTENTION, window=None), MLP),
            "sliding": (attention(*POSITIONS, *KEYS, WINDOW, norms=AROUND_ATTENTION), MLP),
        },
        stack=replace(LAYER_TYPES, default=types_of_layers),
    )
)
