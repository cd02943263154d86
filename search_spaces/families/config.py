"""A configuration that somebody else wrote: plain values by name, each checked when it is read.

config.whole("hidden_size")                 a positive whole number, or an error that names file and key
config.get("rope_parameters.rope_theta")    dots lead into what lies inside
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from foundation.errors import SettingError
from foundation.text import shown
from search_spaces.language.limits import LARGEST_NUMBER

REQUIRED: Any = object()
"""The default of what a configuration must say."""


WITHOUT_EFFECT = frozenset(
    [
        "_name_or_path",
        "architectures",
        "attention_dropout",
        "chunk_size",
        "original_max_position_embeddings",
        "rescale_prenorm_residual",
        "residual_in_fp32",
        "router_jitter_noise",
        "time_step_floor",
        "time_step_init_scheme",
        "time_step_max",
        "time_step_min",
        "time_step_scale",
        "use_associative_scan",
        "use_mambapy",
        "attn_implementation",
        "auto_map",
        "bos_token_id",
        "classifier_dropout",
        "decoder_start_token_id",
        "dtype",
        "embd_pdrop",
        "eos_token_id",
        "forced_eos_token_id",
        "hidden_dropout_prob",
        "id2label",
        "initializer_range",
        "is_decoder",
        "is_llama_config",
        "keys_to_ignore_at_inference",
        "label2id",
        "model_type",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "pad_token_id",
        "pretraining_tp",
        "resid_pdrop",
        "return_dict",
        "rope_interleaved",
        "router_aux_loss_coef",
        "sep_token_id",
        "tie_encoder_decoder",
        "torch_dtype",
        "transformers.js_config",
        "transformers_version",
        "unk_token_id",
        "use_cache",
        "vocab_file",
    ]
)
"""Keys that change nothing of what a trained model computes."""


@dataclass(frozen=True)
class Config:
    """The values of a configuration; `path` is the file, for messages. What was read of it is remembered."""

    values: Mapping[str, Any]
    path: str = "config.json"
    read: set[str] = field(default_factory=set)

    def get(self, name: str, default: Any = REQUIRED) -> Any:
        """The value of a key; where it is absent or null, the default.

        Raises:
            SettingError: there is none, and no default.
        """
        node: Any = self.values
        first, *inner = name.split(".")
        self.read.add(first)
        for word in (first, *inner):
            node = node.get(word) if isinstance(node, Mapping) else None
        if node is not None:
            return node
        if default is REQUIRED:
            raise SettingError(f"{self.path}: {name} is missing")
        return default

    def whole(self, name: str, default: Any = REQUIRED) -> int:
        """A positive whole number.

        Raises:
            SettingError: it is none.
        """
        value = self.get(name, default)
        if type(value) is not int or value < 1:
            raise self.wrong(name, value, "a positive whole number")
        return value

    def number(self, name: str, default: Any = REQUIRED) -> float:
        """A number.

        Raises:
            SettingError: it is none, or one that no network has.
        """
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(name, value, "a number")
        if not abs(value) <= LARGEST_NUMBER:
            raise self.wrong(name, value, "a number within ±2^40")
        return value

    def words(self, name: str, count: int, default: Any = REQUIRED) -> list[Any]:
        """A list of values, one for each of `count` layers.

        Raises:
            SettingError: it is none, or of another length.
        """
        value = self.get(name, default)
        if not isinstance(value, list) or len(value) != count:
            raise self.wrong(name, value, f"a list with one value for each of the {count} layers")
        return value

    def wrong(self, name: str, value: Any, rule: str) -> SettingError:
        """The error that a value is not what it must be."""
        return SettingError(f"{self.path}: {name} must be {rule}, got {shown(value)}")

    def with_values(self, **values: Any) -> Config:
        """The same configuration with other values."""
        return Config({**self.values, **values}, self.path, self.read)

    def unread(self) -> list[str]:
        """Keys that nobody asked for, and that may mean something."""
        known = self.read | WITHOUT_EFFECT
        return sorted(name for name, value in self.values.items() if name not in known and value)
