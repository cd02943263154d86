"""Qwen3 (arXiv:2505.09388): Llama with a norm of the queries and keys of every head; some have windows."""

from __future__ import annotations

from search_spaces.families.base import families
from search_spaces.families.gguf_names import GgufNames
from search_spaces.families.keys import Same
from search_spaces.families.llama import BIASES, LAYER_TYPES, POSITIONS, WINDOW, attention, like_llama, mlp
from search_spaces.families.tensors import One

NORMS = (
    One("mixer.q_norm", "self_attn.q_norm.weight"),
    One("mixer.k_norm", "self_attn.k_norm.weight"),
)
"""Of queries and keys."""

EPSILON = Same("rms_norm_eps", "qk_norm_epsilon", default=1e-6)
"""It is that of all norms."""

KEYS = (*POSITIONS, BIASES, EPSILON)

families.add(
    like_llama(
        name="qwen3",
        architecture="Qwen3ForCausalLM",
        layers={
            "full": (attention(*KEYS, rules=NORMS, qk_norm=True, window=None), mlp()),
            "sliding": (attention(*KEYS, *WINDOW, rules=NORMS, qk_norm=True), mlp()),
        },
        stack=LAYER_TYPES,
        gguf=GgufNames("qwen3"),
    )
)
