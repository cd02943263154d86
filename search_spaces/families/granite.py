"""Granite 3 (github.com/ibm-granite/granite-3.0-language-models): Llama with factors, as in muP.

Embeddings, what a layer adds to x, products of queries and keys, and logits are multiplied by numbers of the
configuration (Yang et al. 2022, arXiv:2203.03466).
"""

from __future__ import annotations

from search_spaces.families.base import families
from search_spaces.families.keys import Fixed, Inverse, Same
from search_spaces.families.llama import BIASES, POSITIONS, SHELL, UNTIED, attention, like_llama, mlp

FACTORS = (
    Same("embedding_multiplier", "embedding.scale", default=1.0),
    Same("residual_multiplier", "norm.residual_scale", default=1.0),
    Inverse("logits_scaling", "head.scale"),
)

SCALE = Same("attention_multiplier", "scale", default=1.0)

families.add(
    like_llama(
        name="granite",
        architecture="GraniteForCausalLM",
        shell=(*SHELL, UNTIED, *FACTORS),
        fixed={},
        layers={"layer": (attention(*POSITIONS, BIASES, SCALE), mlp(Fixed("mlp_bias", False)))},
    )
)
