"""Selective copying: some tokens stand among blanks; say them in their order when the prompts come.

    read      . a . . b . c . . >  >  >
    answer                      a  b  c

Where they stand differs from sequence to sequence, so that no fixed delay will do: it asks for taking in some
tokens and not others.

After Poli et al. 2024, arXiv:2403.17844, section 3, and Gu & Dao 2023, arXiv:2312.00752, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from evaluators.tasks.base import IGNORED, tasks
from evaluators.tasks.synthetic import MOST_TOKENS, Read, Synthetic
from foundation.settings import MANY, setting

BLANK, PROMPT, FIRST = 0, 1, 2
"""The tokens that are no values."""


@tasks.add
@dataclass(frozen=True, kw_only=True)
class SelectiveCopying(Synthetic):
    """`copied` tokens of each sequence are to be said again."""

    name: ClassVar[str] = "selective_copying"
    score_name: ClassVar[str] = "selective_copying_error"
    score_help: ClassVar[str] = "wrong tokens where those that stood among blanks are said again in order"

    tokens: int = setting(16, help="Blank, prompt, and what is copied.", least=4, most=MOST_TOKENS)
    copied: int = setting(6, help="Tokens that are copied.", least=1, most=MANY)

    def __post_init__(self) -> None:
        super().__post_init__()
        room = self.length // 2
        self.require(self.copied <= room, f"room for 1 to {room} copied tokens, got {self.copied}")

    @property
    def vocab(self) -> int:
        """Blank, prompt and values."""
        return self.tokens

    @property
    def floor(self) -> float:
        """Any token that is copied."""
        return 1 - 1 / (self.tokens - FIRST)

    def sequence(self, dice: np.random.Generator) -> Read:
        """Blanks with values among them, then as many prompts."""
        before = self.length - self.copied
        values = dice.integers(FIRST, self.tokens, self.copied).tolist()
        tokens = [BLANK] * before + [PROMPT] * self.copied
        for place, value in zip(sorted(dice.permutation(before)[: self.copied]), values, strict=True):
            tokens[place] = value
        return tokens, [IGNORED] * before + values

    def solve(self, tokens: Sequence[int]) -> list[int]:
        """Keep the values, and say the next one at each prompt."""
        values = iter([token for token in tokens if token >= FIRST])
        return [next(values) if token == PROMPT else IGNORED for token in tokens]
