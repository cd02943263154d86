"""Qwen3 with experts (arXiv:2505.09388), whose gates are renormalised over the chosen ones or not."""

from __future__ import annotations

from search_spaces.blocks.deepseek_moe import DeepSeekMoE
from search_spaces.blocks.moe import MoE
from search_spaces.families.base import Kind, families
from search_spaces.families.config import Config
from search_spaces.families.keys import Fixed, Key, Same, Width
from search_spaces.families.llama import (
    BIASES,
    POSITIONS,
    SILU,
    attention,
    expert_matrices,
    like_llama,
    with_rope_parameters,
)
from search_spaces.families.qwen3 import EPSILON, NORMS
from search_spaces.families.stacks import Chosen
from search_spaces.families.tensors import One

GATES = Chosen("norm_topk_prob", {True: "renormed", False: "as they are"}, default=False)
"""Whether the gates of the chosen experts add up to one."""


def experts(*keys: Key) -> dict[str, Kind]:
    """Experts by the label of their gates, with the keys of their sizes."""
    rules = (
        One("norm", "post_attention_layernorm.weight"),
        One("mixer.router", "mlp.gate.weight"),
        *expert_matrices("mlp"),
    )
    plain = {"gate": "softmax", "shared_experts": 0, "bias_rate": 0}
    return {
        "renormed": Kind(MoE, (*keys, SILU), rules),
        "as they are": Kind(DeepSeekMoE, (*keys, SILU), rules, plain),
    }


KEYS = (
    Same("num_experts", "num_experts"),
    Same("num_experts_per_tok", "top_k"),
    Width("moe_intermediate_size"),
    Fixed("mlp_only_layers", []),
    Fixed("decoder_sparse_step", 1),
)


def modern(config: Config) -> Config:
    """The number of experts has two names; the width of layers without experts is there, too."""
    config.get("intermediate_size", None)
    count = config.get("num_experts", config.get("num_local_experts", None))
    return with_rope_parameters(config.with_values(num_experts=count))


ATTENTION = attention(
    *POSITIONS, BIASES, EPSILON, Fixed("use_sliding_window", False), rules=NORMS, qk_norm=True, window=None
)

families.add(
    like_llama(
        name="qwen3_moe",
        architecture="Qwen3MoeForCausalLM",
        layers={label: (ATTENTION, kind) for label, kind in experts(*KEYS).items()},
        stack=GATES,
        modern=modern,
    )
)
