"""Mamba-2 (Dao and Gu 2024, arXiv:2405.21060): layers of state spaces with one decay for each head.

Its tensors stand here for hybrids, too.
"""

from __future__ import annotations

from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.families.base import Family, Kind, families
from search_spaces.families.config import Config
from search_spaces.families.keys import Fixed, Ratio, Same
from search_spaces.families.llama import PLAIN
from search_spaces.families.mamba import REPEATED, RULES, SHELL
from search_spaces.families.tensors import Joined, One, Rule

UNLIMITED = ([0.0, {"__float__": "Infinity"}], [0.0, "Infinity"], [0.0, float("inf")])
"""Step sizes that are not cut off, as configurations say it."""

NO_LIMIT = Fixed("time_step_limit", UNLIMITED[0], also=UNLIMITED[1:])


def tensors(mixer: str = "mixer.") -> tuple[Rule, ...]:
    """The rules of a mixer of this name, with B and C of all heads or of groups."""
    return (
        *_shared(mixer, "", "2 N"),
        *_shared(mixer, "_groups", "2 G N"),
        One("mixer.dt_bias", f"{mixer}dt_bias"),
        One("mixer.a_log", f"{mixer}A_log"),
        One("mixer.skip", f"{mixer}D"),
        One("mixer.norm", f"{mixer}norm.weight", "H P -> (H P)"),
        One("mixer.wo", f"{mixer}out_proj.weight", "D H P -> D (H P)"),
    )


def _shared(mixer: str, form: str, axes: str) -> tuple[Rule, ...]:
    """The rules of tensors that hold B and C beside others."""
    wbc, conv, bias = (f"mixer.{name}{form}" for name in ("wbc", "conv_bc", "conv_bc_bias"))
    heads = "H P D -> (H P) D"
    return (
        Joined(
            ("mixer.wz", "mixer.wx", wbc, "mixer.wdt"),
            f"{mixer}in_proj.weight",
            (heads, heads, f"{axes} D -> ({axes}) D", "H D -> H D"),
        ),
        Joined(
            ("mixer.conv_x", conv),
            f"{mixer}conv1d.weight",
            ("H P k -> (H P) 1 k", f"{axes} k -> ({axes}) 1 k"),
            flip=True,
        ),
        Joined(("mixer.conv_x_bias", bias), f"{mixer}conv1d.bias", ("H P -> (H P)", f"{axes} -> ({axes})")),
    )


LAYER = Kind(
    Mamba2,
    (
        Same("head_dim", "head_dim", default=64),
        Ratio("expand", ("num_heads", "head_dim"), known=("head_dim",)),
        Same("num_heads", "num_heads"),
        Same("state_size", "state_dim", default=128),
        Same("conv_kernel", "conv_kernel", default=4),
        Same("n_groups", "groups", default=8),
        Same("layer_norm_epsilon", "norm_epsilon", default=1e-5),
        Fixed("hidden_act", "silu"),
        Fixed("use_bias", False),
        Fixed("use_conv_bias", True),
        NO_LIMIT,
    ),
    (One("norm", "norm.weight"), *tensors()),
    {"norm": "gated", "norm_over": "heads"},
)


def modern(config: Config) -> Config:
    """A rank of the step size is left over from Mamba."""
    config.get("time_step_rank", None)
    return config


families.add(
    Family(
        name="mamba2",
        architecture="Mamba2ForCausalLM",
        shell=(*SHELL[:-1], Same("tie_word_embeddings", "head.tied", default=False)),
        rules=RULES,
        fixed=PLAIN,
        layers={"layer": (LAYER,)},
        prefix="backbone.layers.{}.",
        repeated=REPEATED,
        modern=modern,
    )
)
