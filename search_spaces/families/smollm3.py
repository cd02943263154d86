"""SmolLM3 (huggingface.co/blog/smollm3): Llama where every fourth layer has no positions.

That is NoPE (Kazemnejad et al. 2023, arXiv:2305.19466) by layer, as in Yang et al. 2025, arXiv:2501.18795.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from search_spaces.families.base import families
from search_spaces.families.config import Config
from search_spaces.families.gguf_names import GgufNames
from search_spaces.families.keys import Fixed
from search_spaces.families.llama import (
    BIASES,
    LAYER_TYPES,
    POSITIONS,
    SHELL,
    UNTIED,
    WINDOW,
    attention,
    like_llama,
    mlp,
    with_rope_parameters,
)
from search_spaces.families.stacks import COUNT, Both, Listed


def turned_layers(config: Config) -> list[Any]:
    """Configurations may say by an interval which layers have no positions."""
    interval = config.whole("no_rope_layer_interval", 4)
    return [int((index + 1) % interval != 0) for index in range(config.whole(COUNT))]


TURNED = Listed(
    "no_rope_layers",
    {1: "turned", 0: "still"},
    default=turned_layers,
    instead_of=("no_rope_layer_interval",),
)

MLP = mlp(Fixed("mlp_bias", False))

families.add(
    like_llama(
        name="smollm3",
        architecture="SmolLM3ForCausalLM",
        shell=(*SHELL, replace(UNTIED, default=True)),
        layers={
            "full turned": (attention(*POSITIONS, BIASES, window=None, rotary=True), MLP),
            "full still": (attention(BIASES, window=None, rotary=False), MLP),
            "sliding turned": (attention(*POSITIONS, BIASES, *WINDOW, rotary=True), MLP),
            "sliding still": (attention(BIASES, *WINDOW, rotary=False), MLP),
        },
        stack=Both(LAYER_TYPES, TURNED),
        modern=partial(with_rope_parameters, base=2e6),
        gguf=GgufNames("smollm3", turned=("q_proj", "k_proj")),
    )
)
