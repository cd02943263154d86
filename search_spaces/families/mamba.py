"""Mamba (Gu and Dao 2023, arXiv:2312.00752): layers of selective state spaces and nothing else."""

from __future__ import annotations

from search_spaces.blocks.mamba import Mamba
from search_spaces.families.base import Family, Kind, families
from search_spaces.families.config import Config
from search_spaces.families.keys import Fixed, Ratio, Same
from search_spaces.families.llama import PLAIN
from search_spaces.families.tensors import Joined, One, Rule

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


def tensors(mixer: str = "mixer.", norm: str = "norm.weight") -> tuple[Rule, ...]:
    """The rules of a layer whose mixer and norm have these names."""
    return (
        One("norm", norm),
        Joined(("mixer.wx", "mixer.wz"), f"{mixer}in_proj.weight", "C D -> C D"),
        One("mixer.conv", f"{mixer}conv1d.weight", "C k -> C 1 k", flip=True),
        One("mixer.conv_bias", f"{mixer}conv1d.bias"),
        Joined(("mixer.dt_in", "mixer.wbc"), f"{mixer}x_proj.weight", ("R C -> R C", "2 N C -> (2 N) C")),
        One("mixer.dt_out", f"{mixer}dt_proj.weight"),
        One("mixer.dt_bias", f"{mixer}dt_proj.bias"),
        One("mixer.a_log", f"{mixer}A_log"),
        One("mixer.skip", f"{mixer}D"),
        One("mixer.wo", f"{mixer}out_proj.weight"),
    )


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
    tensors(),
    {"norms": False},
)


def modern(config: Config) -> Config:
    """The rank of the step size may be "auto", and the inner width be said twice."""
    config.get("intermediate_size", None)
    return with_rank(config, "time_step_rank")


def with_rank(config: Config, key: str) -> Config:
    """The rank of the step size as a number, where it is "auto" or absent."""
    if config.get(key, "auto") == "auto":
        config = config.with_values(**{key: -(-config.whole("hidden_size") // 16)})
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
