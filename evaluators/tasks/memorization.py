"""Memorization: say the value that a key has in all sequences.

    read      c .  a .  b .  a .
    answer      3    1    2    1

The facts never change, so they are learned by the weights and found in none of the sequences: it asks for the
room that a network has for facts, which is mostly in its channel mixers.

After Poli et al. 2024, arXiv:2403.17844, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from evaluators.tasks.base import IGNORED, tasks
from evaluators.tasks.synthetic import Read, Synthetic
from foundation.settings import setting

PROMPT = 0
FACTS = 3
"""The seed of the facts."""


@tasks.add
@dataclass(frozen=True, kw_only=True)
class Memorization(Synthetic):
    """There are `facts` keys, each with a value of its own."""

    name: ClassVar[str] = "memorization"
    score_name: ClassVar[str] = "memorization_error"
    score_help: ClassVar[str] = "wrong values of keys that have them in all sequences"

    facts: int = setting(100, help="Keys, each with a value of its own.", least=2, most=2**19)

    @property
    def vocab(self) -> int:
        """Prompt, keys and values."""
        return 1 + 2 * self.facts

    @property
    def floor(self) -> float:
        """Any value."""
        return 1 - 1 / self.facts

    def sequence(self, dice: np.random.Generator) -> Read:
        """Keys with prompts; a last token without a partner is a key."""
        tokens, answers, values = list[int](), list[int](), _values(self.facts)
        for fact in dice.integers(self.facts, size=(self.length + 1) // 2).tolist():
            tokens += [1 + fact, PROMPT]
            answers += [IGNORED, 1 + self.facts + values[fact]]
        return tokens[: self.length], answers[: self.length]

    def solve(self, tokens: Sequence[int]) -> list[int]:
        """Look the facts up."""
        values = _values(self.facts)
        return [
            1 + self.facts + values[tokens[place - 1] - 1] if token == PROMPT else IGNORED
            for place, token in enumerate(tokens)
        ]


@lru_cache(maxsize=8)
def _values(facts: int) -> list[int]:
    """The number of the value of each key: a permutation, always the same."""
    values: list[int] = np.random.default_rng((FACTS, facts)).permutation(facts).tolist()
    return values
