"""Mamba-2 (Dao and Gu 2024, arXiv:2405.21060) with one group: the state space has one decay for each head."""

from __future__ import annotations

from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.families.base import Family, Kind, families
from search_spaces.families.config import Config
from search_spaces.families.keys import Fixed, Ratio, Same
from search_spaces.families.llama import PLAIN
from search_spaces.families.mamba import REPEATED, RULES, SHELL
from search_spaces.families.tensors import Joined, One

UNLIMITED = ([0.0, {"__float__": "Infinity"}], [0.0, "Infinity"], [0.0, float("inf")])
"""Step sizes that are not cut off, as configurations say it."""

LAYER = Kind(
    Mamba2,
    (
        Same("head_dim", "head_dim", default=64),
        Ratio("expand", ("num_heads", "head_dim"), known=("head_dim",)),
        Same("num_heads", "num_heads"),
        Same("state_size", "state_dim", default=128),
        Same("conv_kernel", "conv_kernel", default=4),
        Fixed("n_groups", 1, default=8),
        Fixed("layer_norm_epsilon", 1e-5),  # also that of the norm inside
        Fixed("hidden_act", "silu"),
        Fixed("use_bias", False),
        Fixed("use_conv_bias", True),
        Fixed("time_step_limit", UNLIMITED[0], also=UNLIMITED[1:]),
    ),
    (
        One("norm", "norm.weight"),
        Joined(
            ("mixer.wz", "mixer.wx", "mixer.wbc", "mixer.wdt"),
            "mixer.in_proj.weight",
            ("H P D -> (H P) D", "H P D -> (H P) D", "2 N D -> (2 N) D", "H D -> H D"),
        ),
        Joined(
            ("mixer.conv_x", "mixer.conv_bc"),
            "mixer.conv1d.weight",
            ("H P k -> (H P) 1 k", "2 N k -> (2 N) 1 k"),
            flip=True,
        ),
        Joined(
            ("mixer.conv_x_bias", "mixer.conv_bc_bias"), "mixer.conv1d.bias", ("H P -> (H P)", "2 N -> (2 N)")
        ),
        One("mixer.dt_bias", "mixer.dt_bias"),
        One("mixer.a_log", "mixer.A_log"),
        One("mixer.skip", "mixer.D"),
        One("mixer.norm", "mixer.norm.weight", "H P -> (H P)"),
        One("mixer.wo", "mixer.out_proj.weight", "D H P -> D (H P)"),
    ),
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
