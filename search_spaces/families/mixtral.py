"""Mixtral (Jiang et al. 2024, arXiv:2401.04088): Mistral with experts, of which a token chooses some."""

from __future__ import annotations

from functools import partial

from search_spaces.blocks.moe import MoE
from search_spaces.families.base import Kind, families
from search_spaces.families.keys import Fixed, Same, Width
from search_spaces.families.llama import ANY_WINDOW, POSITIONS, attention, like_llama, with_rope_parameters
from search_spaces.families.tensors import Each, One

EXPERTS = Kind(
    MoE,
    (
        Same("num_local_experts", "num_experts"),
        Same("num_experts_per_tok", "top_k"),
        Width("intermediate_size"),
        Fixed("hidden_act", "silu"),
    ),
    (
        One("norm", "post_attention_layernorm.weight"),
        One("mixer.router", "block_sparse_moe.gate.weight"),
        Each("mixer.gated", "block_sparse_moe.experts.{}.w1.weight"),
        Each("mixer.up", "block_sparse_moe.experts.{}.w3.weight"),
        Each("mixer.down", "block_sparse_moe.experts.{}.w2.weight"),
    ),
)

families.add(
    like_llama(
        name="mixtral",
        architecture="MixtralForCausalLM",
        layers={"layer": (attention(*POSITIONS, ANY_WINDOW), EXPERTS)},
        modern=partial(with_rope_parameters, base=1e6),
    )
)
