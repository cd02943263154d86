"""OLMoE (Muennighoff et al. 2024, arXiv:2409.02060): experts; norms of queries and keys over all heads."""

from __future__ import annotations

from search_spaces.families.base import families
from search_spaces.families.keys import Fixed, Same, Width
from search_spaces.families.llama import BIASES, POSITIONS, attention, like_llama
from search_spaces.families.olmo2 import EPSILON, OVER_HEADS
from search_spaces.families.qwen3_moe import GATES, experts

KEYS = (
    Same("num_experts", "num_experts", default=64),
    Same("num_experts_per_tok", "top_k", default=8),
    Width("intermediate_size"),
)

ATTENTION = attention(
    *POSITIONS,
    BIASES,
    EPSILON,
    Fixed("clip_qkv", None),
    rules=OVER_HEADS,
    qk_norm=True,
    qk_norm_over="heads",
)

families.add(
    like_llama(
        name="olmoe",
        architecture="OlmoeForCausalLM",
        layers={label: (ATTENTION, kind) for label, kind in experts(*KEYS).items()},
        stack=GATES,
    )
)
