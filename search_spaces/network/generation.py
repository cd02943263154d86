"""How a model continues a text: the settings of `Model.generate` and of `nas generate`."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.settings import SEEDS, Settings, setting

GREEDY = 1e-6
"""The temperature up to which the likeliest token is taken: any other one has no chance there."""


PROMPT_LOGITS = 2**25
"""Logits that are held while a prompt is read: a long one, or a large vocabulary, is read in pieces."""


@dataclass(frozen=True, kw_only=True)
class Generation(Settings):
    """How much is written, and how much chance there is in it."""

    new_tokens: int = setting(
        200, help="Tokens to write: bytes, or those of the model's tokenizer.", least=1, most=10**6, short="n"
    )
    temperature: float = setting(0.7, help="0 takes the likeliest token.", least=0, most=100)
    seed: int = setting(0, help="Random seed of the sampling.", least=0, most=SEEDS)
