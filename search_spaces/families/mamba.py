"""Mamba (Gu and Dao 2023, arXiv:2312.00752): layers of selective state spaces and nothing else."""

from __future__ import annotations

from search_spaces.blocks.mamba import Mamba
from search_spaces.families.base import Family, Kind, families
from search_spaces.families.config import Config
from search_spaces.families.keys import Fixed, Ratio, Same
from search_spaces.families.llama import PLAIN
from search_spaces.families.tensors import Joined, One

SHELL = (
    Same("vocab_size", "vocab"),
    Same("hidden_size", "d_model"),
    Same("layer_norm_epsilon", "norm.epsilon", default=1e-5),
    Same("tie_word_embeddings", "head.tied", default=True),
)

RULES = (
    One("embedding", "backbone.embeddings.weight"),
    One("norm", "backbone.norm_f.weight"),
    One("head", "lm_head.weight"),
)

REPEATED = {"lm_head.weight": "backbone.embeddings.weight"}

LAYER = Kind(
    Mamba,
    (
        Ratio("expand", ("channels",)),
        Same("state_size", "state_dim", default=16),
        Same("conv_kernel", "conv_kernel", default=4),
        Same("time_step_rank", "dt_rank"),
        Fixed("hidden_act", "silu"),
        Fixed("use_bias", False),
        Fixed("use_conv_bias", True),
    ),
    (
        One("norm", "norm.weight"),
        Joined(("mixer.wx", "mixer.wz"), "mixer.in_proj.weight", "C D -> C D"),
        One("mixer.conv", "mixer.conv1d.weight", "C k -> C 1 k", flip=True),
        One("mixer.conv_bias", "mixer.conv1d.bias"),
        Joined(("mixer.dt_in", "mixer.wbc"), "mixer.x_proj.weight", ("R C -> R C", "2 N C -> (2 N) C")),
        One("mixer.dt_out", "mixer.dt_proj.weight"),
        One("mixer.dt_bias", "mixer.dt_proj.bias"),
        One("mixer.a_log", "mixer.A_log"),
        One("mixer.skip", "mixer.D"),
        One("mixer.wo", "mixer.out_proj.weight"),
    ),
)


def modern(config: Config) -> Config:
    """The rank of the step size may be "auto", and the inner width be said twice."""
    config.get("intermediate_size", None)
    if config.get("time_step_rank", "auto") == "auto":
        config = config.with_values(time_step_rank=-(-config.whole("hidden_size") // 16))
    return config


families.add(
    Family(
        name="mamba",
        architecture="MambaForCausalLM",
        shell=SHELL,
        rules=RULES,
        fixed=PLAIN,
        layers={"layer": (LAYER,)},
        prefix="backbone.layers.{}.",
        repeated=REPEATED,
        modern=modern,
    )
)
