"""OLMo 2 (OLMo team 2024, arXiv:2501.00656): norms behind mixers, and of queries and keys over all heads."""

from __future__ import annotations

from search_spaces.families.base import families
from search_spaces.families.keys import Same
from search_spaces.families.llama import BIASES, PLAIN, POSITIONS, attention, like_llama, mlp
from search_spaces.families.tensors import One

OVER_HEADS = (
    One("mixer.q_norm_heads", "self_attn.q_norm.weight", "H K 1 -> (H K)"),
    One("mixer.k_norm_heads", "self_attn.k_norm.weight", "G K 1 -> (G K)"),
)
"""One norm of all queries of a token, and one of all keys."""

EPSILON = Same("rms_norm_eps", "qk_norm_epsilon", default=1e-5)

ATTENTION = attention(
    *POSITIONS,
    BIASES,
    EPSILON,
    norms=(One("norm_after", "post_attention_layernorm.weight"),),
    rules=OVER_HEADS,
    qk_norm=True,
    qk_norm_over="heads",
)

families.add(
    like_llama(
        name="olmo2",
        architecture="Olmo2ForCausalLM",
        fixed={**PLAIN, "norm.place": "after"},
        layers={"layer": (ATTENTION, mlp(norms=(One("norm_after", "post_feedforward_layernorm.weight"),)))},
    )
)
