"""Qwen2 (arXiv:2407.10671): Llama with biases of queries, keys and values, and windows if asked for."""

from __future__ import annotations

from search_spaces.families.base import families
from search_spaces.families.gguf_names import GgufNames
from search_spaces.families.llama import LAYER_TYPES, POSITIONS, WINDOW, attention, like_llama, mlp

families.add(
    like_llama(
        name="qwen2",
        architecture="Qwen2ForCausalLM",
        layers={
            "full": (attention(*POSITIONS, biases="inputs", window=None), mlp()),
            "sliding": (attention(*POSITIONS, *WINDOW, biases="inputs"), mlp()),
        },
        stack=LAYER_TYPES,
        gguf=GgufNames("qwen2"),
    )
)
