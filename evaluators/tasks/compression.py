"""Compression: read a sequence, then say all of it, when only prompts come.

    read      a c b a >  >  >  >
    answer            a  c  b  a

Of a mixer with a state of fixed size it asks for holding the whole sequence in it; one that looks back finds
each token by its place. In the original (Poli et al. 2024, arXiv:2403.17844, section 3) a decoder reads all
tokens from the output at the last one; a language model has no such decoder, so here they are said one by
one, and attention is spared the bottleneck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from evaluators.tasks.base import IGNORED, tasks
from evaluators.tasks.synthetic import MOST_TOKENS, Read, Synthetic
from foundation.settings import setting

PROMPT = 0


@tasks.add
@dataclass(frozen=True, kw_only=True)
class Compression(Synthetic):
    """The first half of a sequence is said again in the second one."""

    name: ClassVar[str] = "compression"
    score_name: ClassVar[str] = "compression_error"
    score_help: ClassVar[str] = "wrong tokens where a whole sequence is said again"

    tokens: int = setting(16, help="Prompt, and what is said again.", least=3, most=MOST_TOKENS)

    @property
    def vocab(self) -> int:
        """Prompt and values."""
        return self.tokens

    @property
    def floor(self) -> float:
        """Any token but the prompt."""
        return 1 - 1 / (self.tokens - 1)

    def sequence(self, dice: np.random.Generator) -> Read:
        """Values, then as many prompts; of an odd length the first prompt asks for nothing."""
        kept = self.length // 2
        values = dice.integers(1, self.tokens, kept).tolist()
        before = self.length - kept
        return values + [PROMPT] * (self.length - kept), [IGNORED] * before + values

    def solve(self, tokens: Sequence[int]) -> list[int]:
        """Say them from the first one on, so that the last prompt is for the last."""
        values = [token for token in tokens if token != PROMPT]
        return [IGNORED] * (len(tokens) - len(values)) + values
