"""Llama (Touvron et al. 2023, arXiv:2302.13971), whose form most families vary: SmolLM2 is one of its models.

Its parts stand here for those families: grouped-query attention with rotary positions, a SwiGLU, both behind
a root mean square norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.families.base import Family, Kind, families
from search_spaces.families.config import Config
from search_spaces.families.gguf_names import GgufNames
from search_spaces.families.keys import Fixed, Free, Key, Same, Width, Word, key, quotient
from search_spaces.families.positions import positions
from search_spaces.families.stacks import COUNT, Listed
from search_spaces.families.tensors import Each, One, Rule

SHELL = (
    Same("vocab_size", "vocab"),
    Same("hidden_size", "d_model"),
    Same("rms_norm_eps", "norm.epsilon", default=1e-6),
    Free("max_position_embeddings", 32768),
)

UNTIED = Same("tie_word_embeddings", "head.tied", default=False)
"""Heads that have a matrix of their own where a configuration does not say otherwise."""

PLAIN = {"embedding.scale": 1.0}
"""Embeddings are read as they are."""

POSITIONS = positions()

HEADS = (
    Same("num_attention_heads", "num_heads"),
    Same("num_key_value_heads", "num_kv_heads", default=key("num_attention_heads")),
    Same("head_dim", "head_dim", default=quotient("hidden_size", "num_attention_heads")),
)

BIASES = Word("attention_bias", "biases", {False: "none", True: "all"}, default=False)

WINDOW = (Same("sliding_window", "window"), Fixed("use_sliding_window", True))

ANY_WINDOW = Same("sliding_window", "window", default=None)
"""In all layers, or in none where a configuration has no number."""


def projections(mixer: str = "self_attn.") -> tuple[Rule, ...]:
    """Queries, keys and values from matrices of their own, the output, and biases of all of them."""
    return (
        One("mixer.wq", f"{mixer}q_proj.weight", "H K D -> (H K) D"),
        One("mixer.wk", f"{mixer}k_proj.weight", "G K D -> (G K) D"),
        One("mixer.wv", f"{mixer}v_proj.weight", "G V D -> (G V) D"),
        One("mixer.wo", f"{mixer}o_proj.weight", "D H V -> D (H V)"),
        One("mixer.bq", f"{mixer}q_proj.bias", "H K 1 -> (H K)"),
        One("mixer.bk", f"{mixer}k_proj.bias", "G K 1 -> (G K)"),
        One("mixer.bv", f"{mixer}v_proj.bias", "G V 1 -> (G V)"),
        One("mixer.bo", f"{mixer}o_proj.bias"),
    )


APART, BEHIND = projections()[:3], projections()[3:]
"""The matrices in front of attention, each of its own, and all else."""


def expert_matrices(place: str) -> tuple[Rule, ...]:
    """Those of gated experts, each of its own, in the part of a layer that is called `place`."""
    names = {"mixer.gated": "gate", "mixer.up": "up", "mixer.down": "down"}
    return tuple(Each(ours, f"{place}.experts.{{}}.{there}_proj.weight") for ours, there in names.items())


GATED = (One("mixer.gated", "mlp.gate_proj.weight"), One("mixer.up", "mlp.up_proj.weight"))
"""The two matrices in front, each of its own."""


def attention(
    *keys: Key,
    norms: tuple[Rule, ...] = (One("norm", "input_layernorm.weight"),),
    inputs: tuple[Rule, ...] = APART,
    rules: tuple[Rule, ...] = (),
    **fixed: Any,
) -> Kind:
    """Grouped-query attention with further keys and rules; `inputs` are those of queries, keys and values."""
    return Kind(
        Attention,
        (*HEADS, *keys),
        (
            *norms,
            *inputs,
            *BEHIND,
            *rules,
        ),
        fixed,
    )


SILU = Fixed("hidden_act", "silu", also=("swish",))


def mlp(
    *keys: Key,
    norms: tuple[Rule, ...] = (One("norm", "post_attention_layernorm.weight"),),
    inputs: tuple[Rule, ...] = GATED,
    function: Key = SILU,
    **fixed: Any,
) -> Kind:
    """A gated perceptron with further keys; `inputs` are the rules of the matrices in front."""
    return Kind(
        SwiGLU,
        (Width("intermediate_size"), function, *keys),
        (
            *norms,
            *inputs,
            One("mixer.down", "mlp.down_proj.weight"),
        ),
        fixed,
    )


def types_of_layers(config: Config) -> list[Any]:
    """Older configurations say by two numbers which layers have a window: the later ones."""
    first = config.get("max_window_layers", 0)
    windowed = config.get("use_sliding_window", False) and config.get("sliding_window", None) is not None
    return [
        "sliding_attention" if windowed and index >= first else "full_attention"
        for index in range(config.whole(COUNT))
    ]


LAYER_TYPES = Listed(
    "layer_types",
    {"full_attention": "full", "sliding_attention": "sliding"},
    default=types_of_layers,
    instead_of=("use_sliding_window", "sliding_window", "max_window_layers"),
)


RULES = (
    One("embedding", "model.embed_tokens.weight"),
    One("norm", "model.norm.weight"),
    One("head", "lm_head.weight"),
)

REPEATED = {"lm_head.weight": "model.embed_tokens.weight"}


def with_rope_parameters(config: Config, base: float = 10000.0) -> Config:
    """Older configurations have other keys; where none says the base of the angles, it is `base`."""
    known = config.get("rope_parameters", None)
    older, share = config.get("rope_theta", base), config.get("partial_rotary_factor", 1.0)
    scaling = config.get("rope_scaling", None)
    usual = {"rope_type": "default", "rope_theta": older, "partial_rotary_factor": share}
    if isinstance(known, dict):
        rope = {**usual, **known}
    elif isinstance(scaling, dict):
        rope = {**usual, **scaling, "rope_type": scaling.get("rope_type", scaling.get("type", "default"))}
    else:
        rope = {**usual, "rope_type": "default" if scaling is None else scaling}
    return config.with_values(rope_parameters=rope)


def like_llama(name: str, architecture: str, layers: Mapping[str, tuple[Kind, ...]], **others: Any) -> Family:
    """A family of this form; `others` are fields of `Family` that are not as usual."""
    usual: dict[str, Any] = {
        "shell": (*SHELL, UNTIED),
        "rules": RULES,
        "fixed": PLAIN,
        "repeated": REPEATED,
        "modern": with_rope_parameters,
    }
    return Family(name=name, architecture=architecture, layers=layers, **(usual | others))


families.add(
    like_llama(
        "llama",
        "LlamaForCausalLM",
        {"layer": (attention(*POSITIONS, BIASES), mlp(Fixed("mlp_bias", False)))},
        gguf=GgufNames("llama", turned=("q_proj", "k_proj")),
    )
)
