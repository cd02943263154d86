"""Gemma 3 (arXiv:2503.19786): Gemma 2 without caps, with norms of queries and keys, and two bases.

Five of six layers have a window, and a smaller base of their angles. This is its text model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from search_spaces.families.base import families
from search_spaces.families.config import Config
from search_spaces.families.gemma2 import AROUND_ATTENTION, BOTH, CAP, ENDS, KEYS, MLP, TIED, WINDOW
from search_spaces.families.llama import LAYER_TYPES, SHELL, attention, like_llama
from search_spaces.families.positions import positions
from search_spaces.families.qwen3 import EPSILON, NORMS
from search_spaces.families.stacks import COUNT

NORMED = tuple(replace(rule, plus=1.0) for rule in NORMS)
FULL = (*positions("rope_parameters.full_attention"), *KEYS, EPSILON)
NEAR = (*positions("rope_parameters.sliding_attention"), *KEYS, EPSILON, WINDOW)

PATTERN = ("sliding_window_pattern", "_sliding_window_pattern")


def types_of_layers(config: Config) -> list[Any]:
    """A window in all layers but every sixth, unless another number is said."""
    every = next((config.whole(name) for name in PATTERN if config.get(name, None) is not None), 6)
    return [
        "sliding_attention" if (index + 1) % every else "full_attention"
        for index in range(config.whole(COUNT))
    ]


def modern(config: Config) -> Config:
    """Older configurations say the bases of both kinds of positions, and how the far ones are stretched."""
    older = [config.get(name, base) for name, base in (("rope_theta", 1e6), ("rope_local_base_freq", 1e4))]
    scaling = config.get("rope_scaling", None)
    if config.get("rope_parameters", None) is not None:
        return config
    far = {"rope_type": "default", **(scaling if isinstance(scaling, dict) else {}), "rope_theta": older[0]}
    near = {"rope_type": "default", "rope_theta": older[1]}
    return config.with_values(rope_parameters={"full_attention": far, "sliding_attention": near})


families.add(
    like_llama(
        name="gemma3_text",
        architecture="Gemma3ForCausalLM",
        shell=(*SHELL, TIED, CAP),
        rules=ENDS,
        fixed=BOTH,
        layers={
            "full": (
                attention(*FULL, norms=AROUND_ATTENTION, rules=NORMED, qk_norm=True, window=None),
                MLP,
            ),
            "sliding": (attention(*NEAR, norms=AROUND_ATTENTION, rules=NORMED, qk_norm=True), MLP),
        },
        stack=replace(LAYER_TYPES, default=types_of_layers, instead_of=(*LAYER_TYPES.instead_of, *PATTERN)),
        modern=modern,
    )
)
