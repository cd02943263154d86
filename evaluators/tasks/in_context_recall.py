"""In-context recall: a stream of keys with their values; say the value of every key that came before.

    read      c 3  a 1  c 3  b 2  a 1
    answer              3         1

Keys are the lower half of the vocabulary, values the upper one; which value a key has is drawn anew for each
sequence. Unlike `recall`, keys come again among pairs that are still being told.

After Poli et al. 2024, arXiv:2403.17844, section 3 (with several queries).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from evaluators.tasks.base import IGNORED, tasks
from evaluators.tasks.synthetic import MOST_TOKENS, Read, Synthetic
from foundation.settings import MANY, setting


@tasks.add
@dataclass(frozen=True, kw_only=True)
class InContextRecall(Synthetic):
    """`keys` keys of each sequence come again and again."""

    name: ClassVar[str] = "in_context_recall"
    score_name: ClassVar[str] = "in_context_recall_error"
    score_help: ClassVar[str] = "wrong values of keys that came before in the sequence"

    tokens: int = setting(64, help="Keys and values.", least=4, most=MOST_TOKENS)
    keys: int = setting(8, help="Keys of a sequence.", least=1, most=MANY)

    def __post_init__(self) -> None:
        super().__post_init__()
        room = min(self.tokens // 2, self.length // 2 - 1)
        self.require(self.keys <= room, f"room for 1 to {room} keys, got {self.keys}")

    @property
    def vocab(self) -> int:
        """Keys and values."""
        return self.tokens

    @property
    def floor(self) -> float:
        """Any value."""
        return 1 - 1 / (self.tokens - self.tokens // 2)

    def sequence(self, dice: np.random.Generator) -> Read:
        """Pairs of a dictionary that is drawn first; a last token without a partner is a key."""
        half = self.tokens // 2
        keys = dice.permutation(half)[: self.keys].tolist()
        values = dict(zip(keys, dice.integers(half, self.tokens, self.keys).tolist(), strict=True))
        tokens, answers, told = list[int](), list[int](), set[int]()
        for which in dice.integers(self.keys, size=(self.length + 1) // 2).tolist():
            key = keys[which]
            tokens += [key, values[key]]
            answers += [values[key] if key in told else IGNORED, IGNORED]
            told.add(key)
        return tokens[: self.length], answers[: self.length]

    def solve(self, tokens: Sequence[int]) -> list[int]:
        """Look for the key before, and say what follows it."""
        half, values = self.tokens // 2, dict[int, int]()
        answers = []
        for place, token in enumerate(tokens):
            answers.append(values.get(token, IGNORED) if token < half else IGNORED)
            if token >= half:
                values[tokens[place - 1]] = token
        return answers
