"""xLSTM 7B (Beck et al. 2025, arXiv:2503.13427): mLSTM with capped gates, and gated perceptrons.

Widths are shares of d_model in its configurations. Its class keeps decode states for widths that are
multiples of 64, whatever they are, so others are not written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from foundation.errors import SettingError
from search_spaces.blocks.mlstm import CAP, MLSTM
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.families.base import Family, Kind, families
from search_spaces.families.config import Config
from search_spaces.families.keys import Fixed, Key, Same
from search_spaces.families.llama import PLAIN
from search_spaces.families.tensors import Each, One

ALLOCATED = 64
"""Its states have widths that are rounded up to multiples of this."""


@dataclass(frozen=True)
class HeadShare(Key):
    """A share of d_model that is the width of all heads there, and that of one head here."""

    key: str
    field: str
    default: float

    def read(self, config: Config) -> dict[str, Any]:
        """The width of a head."""
        share, heads = config.number(self.key, self.default), config.whole("num_heads", 8)
        width = int(share * config.whole("hidden_size"))
        if width < 1 or width % heads:
            raise config.wrong(self.key, share, f"such that {width} channels are a multiple of {heads} heads")
        return {self.field: width // heads}

    def write(self, fields: Mapping[str, Any], d_model: int) -> dict[str, Any]:
        """The share."""
        width = prod((fields[self.field], fields["num_heads"]))
        if width % ALLOCATED:
            raise SettingError(
                f"{self.field} times num_heads is {width}, and the class keeps states for multiples of"
                f" {ALLOCATED} only"
            )
        return {self.key: _share(width, d_model)}


@dataclass(frozen=True)
class RoundedUp(Key):
    """A share of d_model that is rounded up to a multiple of another number, which is written as one."""

    key: str
    multiple: str
    field: str = "expansion"

    def read(self, config: Config) -> dict[str, Any]:
        """The ratio that comes of it; as a whole number where it is one."""
        d_model, multiple = config.whole("hidden_size"), config.whole(self.multiple, 64)
        share = config.number(self.key, 2.667)
        hidden = int((d_model * share + multiple - 1) // multiple) * multiple
        return {self.field: hidden // d_model if hidden % d_model == 0 else hidden / d_model}

    def write(self, fields: Mapping[str, Any], d_model: int) -> dict[str, Any]:
        """The share."""
        return {self.key: _share(round(fields[self.field] * d_model), d_model), self.multiple: 1}


def _share(width: int, d_model: int) -> float:
    """A share of d_model of which the whole part is this width, whatever is rounded."""
    share = width / d_model
    return share if int(share * d_model) == width else (width + 0.25) / d_model


MIXER = Kind(
    MLSTM,
    (
        Same("num_heads", "num_heads", default=8),
        HeadShare("qk_dim_factor", "state_dim", 0.5),
        HeadShare("v_dim_factor", "head_dim", 1.0),
        Fixed("gate_soft_cap", CAP),
        Fixed("norm_eps", 1e-6),  # also that of the norm inside
        Fixed("use_bias", False),
        Fixed("weight_mode", "single"),
    ),
    (
        One("norm", "norm_mlstm.weight"),
        One("mixer.wq", "mlstm_layer.q.weight", "H N D -> (H N) D"),
        One("mixer.wk", "mlstm_layer.k.weight", "H N D -> (H N) D"),
        One("mixer.wv", "mlstm_layer.v.weight", "H P D -> (H P) D"),
        One("mixer.wz", "mlstm_layer.ogate_preact.weight", "H P D -> (H P) D"),
        Each("mixer.gates", ("mlstm_layer.igate_preact.weight", "mlstm_layer.fgate_preact.weight")),
        Each("mixer.gate_bias", ("mlstm_layer.igate_preact.bias", "mlstm_layer.fgate_preact.bias")),
        One("mixer.norm", "mlstm_layer.multihead_norm.weight", "H P -> (H P)"),
        One("mixer.wo", "mlstm_layer.out_proj.weight", "D H P -> D (H P)"),
    ),
    {"forget_gate": "sigmoid"},
)

MLP = Kind(
    SwiGLU,
    (RoundedUp("ffn_proj_factor", "ffn_round_up_to_multiple_of"),),
    (
        One("norm", "norm_ffn.weight"),
        One("mixer.gated", "ffn.proj_up_gate.weight"),
        One("mixer.up", "ffn.proj_up.weight"),
        One("mixer.down", "ffn.proj_down.weight"),
    ),
    {"activation": "silu", "biases": False},
)

HOW_IT_RUNS = (
    "add_out_norm",
    "autocast_kernel_dtype",
    "chunkwise_kernel",
    "embedding_dim",
    "eps",
    "inference_state_dtype",
    "max_inference_chunksize",
    "mode",
    "norm_reduction_force_float32",
    "num_blocks",
    "return_last_states",
    "sequence_kernel",
    "step_kernel",
)
"""Keys that choose among forms of the same computation, or that the class does not read."""


def modern(config: Config) -> Config:
    """Width and depth have two names."""
    config.read.update(HOW_IT_RUNS)
    width = config.get("hidden_size", config.get("embedding_dim", None))
    depth = config.get("num_hidden_layers", config.get("num_blocks", None))
    return config.with_values(hidden_size=width, num_hidden_layers=depth)


families.add(
    Family(
        name="xlstm",
        architecture="xLSTMForCausalLM",
        shell=(
            Same("vocab_size", "vocab"),
            Same("hidden_size", "d_model"),
            Same("norm_eps", "norm.epsilon", default=1e-6),
            Fixed("tie_word_embeddings", False),
            Same("output_logit_soft_cap", "head.softcap", default=30.0),
        ),
        rules=(
            One("embedding", "backbone.embeddings.weight"),
            One("norm", "backbone.out_norm.weight"),
            One("head", "lm_head.weight"),
        ),
        fixed={**PLAIN, "head.tied": False},
        layers={"layer": (MIXER, MLP)},
        prefix="backbone.blocks.{}.",
        modern=modern,
    )
)
