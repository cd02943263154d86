"""Mistral (Jiang et al. 2023, arXiv:2310.06825): Llama over a window, or without one as in later versions."""

from __future__ import annotations

from search_spaces.families.base import families
from search_spaces.families.config import Config
from search_spaces.families.llama import (
    ANY_WINDOW,
    POSITIONS,
    attention,
    like_llama,
    mlp,
    with_rope_parameters,
)


def modern(config: Config) -> Config:
    """A configuration without a window says so by null; otherwise it has that of the first version."""
    config = with_rope_parameters(config)
    return config if "sliding_window" in config.values else config.with_values(sliding_window=4096)


families.add(
    like_llama(
        name="mistral",
        architecture="MistralForCausalLM",
        layers={"layer": (attention(*POSITIONS, ANY_WINDOW), mlp())},
        modern=modern,
    )
)
