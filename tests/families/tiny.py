"""Tiny random models of transformers, one or more for each family, that show what its table says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from search_spaces.checkpoints.against_transformers import quiet

LLAMA: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

QWEN3 = {**LLAMA, "head_dim": 16, "rms_norm_eps": 1e-6}

WINDOWS = {"use_sliding_window": True, "sliding_window": 7}

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}

OLMO_HYBRID: dict[str, Any] = {
    **LLAMA,
    "tie_word_embeddings": False,
    "num_hidden_layers": 3,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,  # transformers writes filters in three equal parts, whatever they are
    "linear_value_head_dim": 8,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
    "rms_norm_eps": 1e-2,  # as for Qwen3-Next below
}

DEEPSEEK_V2 = {name: value for name, value in LLAMA.items() if name != "num_key_value_heads"} | {
    "tie_word_embeddings": False,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 2,
    "moe_intermediate_size": 20,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 12,
    "q_lora_rank": None,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 6,
    "v_head_dim": 12,
}

QWEN3_NEXT = {
    **QWEN3,
    **EXPERTS,
    "num_hidden_layers": 4,
    "tie_word_embeddings": False,
    "moe_intermediate_size": 20,
    "shared_expert_intermediate_size": 28,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 6,
    "linear_value_head_dim": 8,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1e-2,  # the first reads of a memory are nearly nothing, and their rounding is not
}

GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 36, "sliding_window": 7}

LFM2 = {name: value for name, value in LLAMA.items() if name != "rms_norm_eps"} | {
    "layer_types": ["conv", "full_attention", "conv"],
    "norm_eps": 1e-5,
}

MAMBA = {
    "vocab_size": 61,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "state_size": 8,
    "expand": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

JAMBA = {name: value for name, value in LLAMA.items() if name != "rms_norm_eps"} | {
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "num_hidden_layers": 4,
    "num_experts": 3,
    "mamba_d_state": 5,
}

FALCON_H1: dict[str, Any] = {
    **LLAMA,
    "mamba_d_ssm": 32,
    "mamba_n_heads": 4,
    "mamba_d_state": 5,
    "mamba_n_groups": 2,
    "mamba_chunk_size": 16,
}

FACTORS: dict[str, Any] = {
    "embedding_multiplier": 5.66,
    "lm_head_multiplier": 0.125,
    "key_multiplier": 0.39,
    "attention_in_multiplier": 1.2,
    "attention_out_multiplier": 0.94,
    "ssm_multipliers": [0.35, 0.25, 0.18, 0.5, 0.32],
    "ssm_in_multiplier": 1.25,
    "ssm_out_multiplier": 0.24,
    "mlp_multipliers": [0.88, 0.29],
}

NEMOTRON_H: dict[str, Any] = {
    **{name: value for name, value in LLAMA.items() if name not in ("rms_norm_eps", "num_hidden_layers")},
    "head_dim": 6,
    "mamba_num_heads": 4,
    "mamba_head_dim": 8,
    "ssm_state_size": 5,
    "n_groups": 2,
    "chunk_size": 16,
    "tie_word_embeddings": False,
}

RECURRENT_GEMMA: dict[str, Any] = {
    **LLAMA,
    "num_key_value_heads": 1,
    "num_hidden_layers": 4,
    "attention_window_size": 9,
    "logits_soft_cap": 5.0,
    "rms_norm_eps": 1e-6,
}

GRANITE_HYBRID: dict[str, Any] = {
    **LLAMA,
    "layer_types": ["mamba", "attention", "mamba"],
    "shared_intermediate_size": 40,
    "mamba_n_heads": 6,
    "mamba_d_state": 5,
    "mamba_n_groups": 2,
    "mamba_chunk_size": 16,
    "embedding_multiplier": 12.0,
    "residual_multiplier": 0.22,
    "attention_multiplier": 0.2,
    "logits_scaling": 8.0,
}

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", LLAMA),
    "llama with biases": ("llama", {**LLAMA, "attention_bias": True, "head_dim": 6}),
    "llama with a head of its own": ("llama", {**LLAMA, "tie_word_embeddings": False}),
    "smollm2": ("llama", {**LLAMA, "rope_parameters": {"rope_type": "default", "rope_theta": 1e5}}),
    "qwen3": ("qwen3", QWEN3),
    "qwen3 with windows": ("qwen3", {**QWEN3, **WINDOWS, "max_window_layers": 1}),
    "qwen2": ("qwen2", LLAMA),
    "qwen2 with windows": ("qwen2", {**LLAMA, **WINDOWS, "max_window_layers": 2}),
    "mistral": ("mistral", {**LLAMA, "sliding_window": 9}),
    "mistral without a window": ("mistral", {**LLAMA, "sliding_window": None}),
    "smollm3": ("smollm3", {**LLAMA, "num_hidden_layers": 5}),
    "smollm3 with windows": ("smollm3", {**LLAMA, **WINDOWS, "no_rope_layers": [1, 0, 0]}),
    "mixtral": ("mixtral", {**LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "mixtral over a window": (
        "mixtral",
        {**LLAMA, "num_local_experts": 3, "num_experts_per_tok": 1, "sliding_window": 9, "head_dim": 8},
    ),
    "phi3": ("phi3", LLAMA),
    "phi3 in part": ("phi3", {**LLAMA, "partial_rotary_factor": 0.5, "sliding_window": 11}),
    "mamba": ("mamba", {**MAMBA, "time_step_rank": 5}),
    "mamba untied": ("mamba", {**MAMBA, "tie_word_embeddings": False, "expand": 1}),
    "mamba2": ("mamba2", {**MAMBA, "num_heads": 6, "head_dim": 16, "n_groups": 1, "chunk_size": 16}),
    "llama 3.1": ("llama", {**LLAMA, "rope_parameters": {**LLAMA3, "rope_theta": 5e5}}),
    "llama with yarn": ("llama", {**LLAMA, "rope_parameters": {**YARN, "rope_theta": 1e4}}),
    "olmo2": ("olmo2", {**LLAMA, "tie_word_embeddings": False}),
    "olmoe": ("olmoe", {**LLAMA, "num_key_value_heads": 4, **EXPERTS}),
    "olmoe renormed": ("olmoe", {**LLAMA, "num_key_value_heads": 4, **EXPERTS, "norm_topk_prob": True}),
    "qwen3_moe": ("qwen3_moe", {**QWEN3, **EXPERTS, "moe_intermediate_size": 20, "norm_topk_prob": True}),
    "gemma2": ("gemma2", {**LLAMA, **GEMMA, "attn_logit_softcapping": 0.7, "final_logit_softcapping": 2.0}),
    "gemma3": ("gemma3_text", {**LLAMA, **GEMMA, "num_hidden_layers": 7}),
    "falcon_h1": ("falcon_h1", {**FALCON_H1, **FACTORS, "attention_bias": True}),
    "falcon_h1 with norms": ("falcon_h1", {**FALCON_H1, "mamba_rms_norm": True}),
    "falcon_h1 gated": (
        "falcon_h1",
        {**FALCON_H1, "mamba_n_groups": 1, "mamba_rms_norm": True, "mamba_norm_before_gate": False},
    ),
    "mamba2 in groups": (
        "mamba2",
        {**MAMBA, "num_heads": 6, "head_dim": 16, "n_groups": 3, "chunk_size": 16},
    ),
    "nemotron_h": (
        "nemotron_h",
        {**NEMOTRON_H, "layers_block_type": ["mamba", "mlp", "mamba", "attention", "mlp"]},
    ),
    "nemotron_h by letters": (
        "nemotron_h",
        {**NEMOTRON_H, "hybrid_override_pattern": "M*-M", "n_groups": 1, "mlp_bias": True},
    ),
    "recurrent_gemma": ("recurrent_gemma", RECURRENT_GEMMA),
    "recurrent_gemma from attention on": (
        "recurrent_gemma",
        {
            **RECURRENT_GEMMA,
            "block_types": ["attention", "recurrent"],
            "attention_bias": True,
            "lru_width": 64,
        },
    ),
    "granitemoehybrid": (
        "granitemoehybrid",
        {**GRANITE_HYBRID, "intermediate_size": 24, "num_local_experts": 3},
    ),
    "granitemoehybrid without experts": (
        "granitemoehybrid",
        {**GRANITE_HYBRID, "num_local_experts": 0, "position_embedding_type": "rope"},
    ),
    "jamba": ("jamba", {**JAMBA, "expert_layer_offset": 0, "tie_word_embeddings": False}),
    "jamba without experts": ("jamba", {**JAMBA, "num_experts": 1, "mamba_dt_rank": 2, "mamba_expand": 1}),
    "lfm2": ("lfm2", {**LFM2, "block_auto_adjust_ff_dim": False}),
    "lfm2 adjusted": ("lfm2", {**LFM2, "block_multiple_of": 16, "block_ffn_dim_multiplier": 1.2}),
    "gpt_oss": (
        "gpt_oss",
        {
            **LLAMA,
            "tie_word_embeddings": False,
            "head_dim": 16,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": 7,
            "rope_parameters": {**YARN, "rope_theta": 1.5e5, "truncate": False},
        },
    ),
    "granite": (
        "granite",
        {
            **LLAMA,
            "embedding_multiplier": 12.0,
            "residual_multiplier": 0.22,
            "attention_multiplier": 0.2,
            "logits_scaling": 8.0,
        },
    ),
    "qwen3_next": ("qwen3_next", {**QWEN3_NEXT, "mlp_only_layers": [1]}),
    "qwen3_next softmax": (
        "qwen3_next",
        {**QWEN3_NEXT, "full_attention_interval": 2, "norm_topk_prob": False},
    ),
    "deepseek_v2": (
        "deepseek_v2",
        {
            **DEEPSEEK_V2,
            "routed_scaling_factor": 1.5,
            "rope_parameters": {**YARN, "rope_theta": 1e4, "mscale": 0.9, "mscale_all_dim": 0.707},
        },
    ),
    "deepseek_v2 in groups": (
        "deepseek_v2",
        {
            **DEEPSEEK_V2,
            "q_lora_rank": 9,
            "n_routed_experts": 8,
            "topk_method": "group_limited_greedy",
            "n_group": 4,
            "topk_group": 2,
        },
    ),
    "olmo_hybrid": ("olmo_hybrid", OLMO_HYBRID),
    "olmo_hybrid without positions": (
        "olmo_hybrid",
        {
            **OLMO_HYBRID,
            "linear_num_key_heads": 4,
            "linear_key_head_dim": 8,
            "linear_allow_neg_eigval": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": None},
        },
    ),
    "xlstm": (
        "xlstm",
        {
            "vocab_size": 61,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_heads": 4,
            "qk_dim_factor": 1.0,
            "ffn_round_up_to_multiple_of": 8,
            "ffn_proj_factor": 1.3,
        },
    ),
}
"""The family and the configuration of each."""


def made(name: str, folder: Path, *, shards: str = "10GB") -> Path:
    """One of these models with random weights, norms and biases included, saved by transformers."""
    import transformers

    family, values = MODELS[name]
    with quiet():
        config = transformers.AutoConfig.for_model(family, **values)
        model = transformers.AutoModelForCausalLM.from_config(config)
        dice = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in model.parameters():
                about = 0.2 if parameter.dim() > 1 else 1.0
                parameter.copy_(about * torch.randn(parameter.shape, generator=dice))
        model.save_pretrained(folder, max_shard_size=shards)
    return folder
