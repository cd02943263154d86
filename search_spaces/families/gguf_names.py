"""What files in GGUF call the keys and tensors of a family.

Such a file has the configuration as metadata under the name of its architecture (`llama.block_count`), and
names of its own for tensors (`blk.0.attn_q.weight`). The tables are those of the format's specification
(github.com/ggml-org/ggml, docs/gguf.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

KEYS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_parameters.rope_theta": "rope.freq_base",
    "rope_parameters.rope_type": "rope.scaling.type",
    "max_position_embeddings": "context_length",
    "vocab_size": "vocab_size",
}
"""Keys of transformers, and the metadata that say the same."""

WITHOUT_EFFECT = frozenset({"rope.dimension_count", "attention.value_length"})
"""Metadata that are checked where the configuration is made, or change nothing."""

SHELL = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}

LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Tensors of a layer, without `blk.0.` and `.weight`."""


@dataclass(frozen=True)
class GgufNames:
    """A family in GGUF: the name of its architecture, and where its keys and tensors are called otherwise.

    The rows of `turned` tensors lie there in pairs that rotary positions turn; here the two of a pair are
    half a head apart. Tensors that end in `plus_one` hold one more than those of transformers.
    """

    architecture: str
    keys: Mapping[str, str] = field(default_factory=dict)
    layer: Mapping[str, str] = field(default_factory=dict)
    turned: tuple[str, ...] = ()
    plus_one: tuple[str, ...] = ()

    def of_tensor(self, name: str) -> str:
        """The name of transformers for a tensor; its own where there is none."""
        stem, _, ending = name.rpartition(".")
        if stem in SHELL:
            return f"{SHELL[stem]}.{ending}"
        block, _, rest = stem.partition(".")
        index, _, part = rest.partition(".")
        known = LAYER | dict(self.layer)
        if block != "blk" or part not in known:
            return name
        return f"model.layers.{index}.{known[part]}.{ending}"

    def from_tensor(self, name: str) -> str:
        """The name in a file for one of transformers: `of_tensor` backwards."""
        stem, _, ending = name.rpartition(".")
        shell = {theirs: own for own, theirs in SHELL.items()}
        if stem in shell:
            return f"{shell[stem]}.{ending}"
        index, _, part = stem.removeprefix("model.layers.").partition(".")
        parts = {theirs: own for own, theirs in (LAYER | dict(self.layer)).items()}
        return f"blk.{index}.{parts[part]}.{ending}"
