"""Mistral (Jiang et al. 2023, arXiv:2310.06825): Llama over a window, or without one as in later versions."""

from __future__ import annotations

from search_spaces.families.base import Family, families
from search_spaces.families.config import Config
from search_spaces.families.keys import Same
from search_spaces.families.llama import (
    PLAIN,
    POSITIONS,
    REPEATED,
    RULES,
    SHELL,
    UNTIED,
    attention,
    mlp,
    with_rope_parameters,
)


def modern(config: Config) -> Config:
    """A configuration without a window says so by null; otherwise it has that of the first version."""
    config = with_rope_parameters(config)
    return config if "sliding_window" in config.values else config.with_values(sliding_window=4096)


families.add(
    Family(
        name="mistral",
        architecture="MistralForCausalLM",
        shell=(*SHELL, UNTIED),
        rules=RULES,
        fixed=PLAIN,
        layers={"layer": (attention(*POSITIONS, Same("sliding_window", "window", default=None)), mlp())},
        repeated=REPEATED,
        modern=modern,
    )
)
