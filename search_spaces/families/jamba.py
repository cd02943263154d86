"""Jamba (Lieber et al. 2024, arXiv:2403.19887): Mamba, attention in some layers, and experts in some.

Attention has no positions, step sizes and state maps of Mamba have norms, and the gates of experts are not
renormalised over the chosen ones.
"""

from __future__ import annotations

from dataclasses import replace

from search_spaces.blocks.deepseek_moe import DeepSeekMoE
from search_spaces.blocks.mamba import Mamba
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.families.base import Kind, families
from search_spaces.families.config import Config
from search_spaces.families.keys import Fixed, Ratio, Same, Width
from search_spaces.families.llama import RULES, SILU, attention, expert_matrices, like_llama
from search_spaces.families.mamba import tensors, with_rank
from search_spaces.families.stacks import COUNT, Both, Periodic
from search_spaces.families.tensors import Each, One

NORM = One("norm", "pre_ff_layernorm.weight")

ENDS = (RULES[0], replace(RULES[1], tensor="model.final_layernorm.weight"), RULES[2])
"""Embedding, last norm and head."""

MAMBA = Kind(
    Mamba,
    (
        Ratio("mamba_expand", ("channels",)),
        Same("mamba_d_state", "state_dim", default=16),
        Same("mamba_d_conv", "conv_kernel", default=4),
        Same("mamba_dt_rank", "dt_rank"),
        Fixed("rms_norm_eps", 1e-6),  # also that of the norms inside
        Fixed("mamba_proj_bias", False),
        Fixed("mamba_conv_bias", True),
        SILU,
    ),
    (
        *tensors("mamba.", "input_layernorm.weight"),
        One("mixer.dt_norm", "mamba.dt_layernorm.weight"),
        Each("mixer.bc_norm", ("mamba.b_layernorm.weight", "mamba.c_layernorm.weight")),
    ),
    {"norms": True},
)

MLP = Kind(
    SwiGLU,
    (Width("intermediate_size"), SILU),
    (
        NORM,
        One("mixer.gated", "feed_forward.gate_proj.weight"),
        One("mixer.up", "feed_forward.up_proj.weight"),
        One("mixer.down", "feed_forward.down_proj.weight"),
    ),
)

EXPERTS = Kind(
    DeepSeekMoE,
    (
        Same("num_experts", "num_experts", default=16),
        Same("num_experts_per_tok", "top_k", default=2),
        Width("intermediate_size"),
        SILU,
    ),
    (
        NORM,
        One("mixer.router", "feed_forward.router.weight"),
        *expert_matrices("feed_forward"),
    ),
    {"gate": "softmax", "shared_experts": 0, "bias_rate": 0},
)

WITHOUT_EFFECT = (
    "use_mamba_kernels",
    "mamba_inner_layernorms",  # they are there, whatever it says
    "num_logits_to_keep",
    "calc_logits_for_entire_prompt",
)

ATTENTION = attention(rotary=False, window=None)


def modern(config: Config) -> Config:
    """The rank of the step size as a number; with a single expert no layer has any."""
    count, config = config.whole(COUNT), with_rank(config, "mamba_dt_rank")
    config.read.update(("num_experts", "num_experts_per_tok", "num_local_experts", *WITHOUT_EFFECT))
    if config.get("num_experts", config.get("num_local_experts", 16)) == 1:
        config = config.with_values(expert_layer_period=count + 1, expert_layer_offset=count)
    return config


families.add(
    like_llama(
        name="jamba",
        architecture="JambaForCausalLM",
        rules=ENDS,
        layers={
            f"{mixer} {channels}": (first, second)
            for mixer, first in {"attention": ATTENTION, "mamba": MAMBA}.items()
            for channels, second in {"experts": EXPERTS, "mlp": MLP}.items()
        },
        stack=Both(
            Periodic("attn_layer_period", "attn_layer_offset", ("attention", "mamba"), (8, 4)),
            Periodic("expert_layer_period", "expert_layer_offset", ("experts", "mlp"), (2, 1)),
        ),
        modern=modern,
    )
)
