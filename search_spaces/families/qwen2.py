"""Qwen2 (arXiv:2407.10671): Llama with biases of queries, keys and values, and windows if asked for."""

from __future__ import annotations

from search_spaces.families.base import Family, families
from search_spaces.families.gguf_names import GgufNames
from search_spaces.families.llama import (
    LAYER_TYPES,
    PLAIN,
    POSITIONS,
    REPEATED,
    RULES,
    SHELL,
    UNTIED,
    WINDOW,
    attention,
    mlp,
    with_rope_parameters,
)

families.add(
    Family(
        name="qwen2",
        architecture="Qwen2ForCausalLM",
        shell=(*SHELL, UNTIED),
        rules=RULES,
        fixed=PLAIN,
        layers={
            "full": (attention(*POSITIONS, biases="inputs", window=None), mlp()),
            "sliding": (attention(*POSITIONS, *WINDOW, biases="inputs"), mlp()),
        },
        stack=LAYER_TYPES,
        repeated=REPEATED,
        modern=with_rope_parameters,
        gguf=GgufNames("qwen2"),
    )
)
