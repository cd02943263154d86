"""Granite 3 (github.com/ibm-granite/granite-3.0-language-models): Llama with factors, as in muP.

Embeddings, what a layer adds to x, and logits are multiplied by numbers of the configuration (Yang et al.
2022, arXiv:2203.03466). Here they are part of the weights; what products of queries and keys are multiplied
by is a value of the block.
"""

from __future__ import annotations

from search_spaces.families.base import Family, families
from search_spaces.families.config import Config
from search_spaces.families.keys import Fixed, Folded, Same
from search_spaces.families.llama import (
    BIASES,
    POSITIONS,
    REPEATED,
    SHELL,
    TIED,
    attention,
    mlp,
    shell_rules,
    with_rope_parameters,
)


def embedding(config: Config) -> float:
    """What embeddings are multiplied by."""
    return config.number("embedding_multiplier", 1.0)


def residual(config: Config) -> float:
    """What a layer's output is multiplied by."""
    return config.number("residual_multiplier", 1.0)


def logits(config: Config) -> float:
    """Logits are divided by a number there."""
    return 1 / config.number("logits_scaling", 1.0)


FACTORS = (Folded("embedding_multiplier"), Folded("residual_multiplier"), Folded("logits_scaling"))

SCALE = Same("attention_multiplier", "scale", default=1.0)

families.add(
    Family(
        name="granite",
        architecture="GraniteForCausalLM",
        shell=(*SHELL, TIED, *FACTORS),
        rules=shell_rules(embedding, logits),
        layers={
            "layer": (
                attention(*POSITIONS, BIASES, SCALE, out=residual),
                mlp(Fixed("mlp_bias", False), out=residual),
            )
        },
        repeated=REPEATED,
        modern=with_rope_parameters,
    )
)
