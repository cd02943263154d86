"""Mixtral (Jiang et al. 2024, arXiv:2401.04088): Mistral with experts, of which a token chooses some."""

from __future__ import annotations

from functools import partial

from search_spaces.blocks.moe import MoE
from search_spaces.families.base import Family, Kind, families
from search_spaces.families.keys import Fixed, Same, Width
from search_spaces.families.llama import (
    PLAIN,
    POSITIONS,
    REPEATED,
    RULES,
    SHELL,
    UNTIED,
    attention,
    with_rope_parameters,
)
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
    Family(
        name="mixtral",
        architecture="MixtralForCausalLM",
        shell=(*SHELL, UNTIED),
        rules=RULES,
        fixed=PLAIN,
        layers={"layer": (attention(*POSITIONS, Same("sliding_window", "window", default=None)), EXPERTS)},
        repeated=REPEATED,
        modern=partial(with_rope_parameters, base=1e6),
    )
)
