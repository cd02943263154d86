"""Fuzzy in-context recall: keys and values are words of several tokens, of differing length.

    read      a b  3  c  1 2  a b  3  c  1 2
    answer                      3     1  2

The end of a key is known only by what keys came before: no key begins as another one does from its first to
its last token. It asks for the comparison of several tokens before anything is looked up.

After Poli et al. 2024, arXiv:2403.17844, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np

from evaluators.tasks.base import IGNORED, tasks
from evaluators.tasks.synthetic import MOST_TOKENS, Read, Synthetic
from foundation.settings import MANY, setting

Word: TypeAlias = tuple[int, ...]


@tasks.add
@dataclass(frozen=True, kw_only=True)
class FuzzyRecall(Synthetic):
    """`keys` words of one to `word` tokens, with values of one to `word` tokens; token 0 fills the end."""

    name: ClassVar[str] = "fuzzy_recall"
    score_name: ClassVar[str] = "fuzzy_recall_error"
    score_help: ClassVar[str] = "wrong tokens of values, of words that came before in the sequence"

    tokens: int = setting(16, help="Filler, tokens of keys and of values.", least=8, most=MOST_TOKENS)
    keys: int = setting(3, help="Keys of a sequence.", least=1, most=MANY)
    word: int = setting(2, help="Most tokens of a key, and of a value.", least=1, most=64)

    def __post_init__(self) -> None:
        super().__post_init__()
        room = min(self.tokens // 2 - 2, self.length // (2 * self.word) - 1)
        self.require(self.keys <= room, f"room for 1 to {room} keys, got {self.keys}")

    @property
    def vocab(self) -> int:
        """Filler, tokens of keys and of values."""
        return self.tokens

    @property
    def floor(self) -> float:
        """Any token of a value."""
        return 1 - 1 / (self.tokens - self.tokens // 2)

    def sequence(self, dice: np.random.Generator) -> Read:
        """Pairs of a dictionary that is drawn first, as many whole ones as there is room for."""
        keys = self._keys(dice)
        values = [self._word(dice, self.tokens // 2, self.tokens) for _ in keys]
        tokens, answers, told = list[int](), list[int](), set[int]()
        while len(tokens) + 2 * self.word <= self.length:
            which = int(dice.integers(len(keys)))
            key, value = keys[which], values[which]
            known = which in told
            tokens += [*key, *value]
            answers += [IGNORED] * (len(key) - 1)
            answers += [*(value if known else [IGNORED] * len(value)), IGNORED]
            told.add(which)
        rest = self.length - len(tokens)
        return tokens + [0] * rest, answers + [IGNORED] * rest

    def solve(self, tokens: Sequence[int]) -> list[int]:
        """Read words, and say those values again whose keys came before."""
        half, values = self.tokens // 2, dict[Word, Word]()
        answers = [IGNORED] * len(tokens)
        place = 0
        while place < len(tokens) and tokens[place] != 0:
            middle = next((i for i in range(place, len(tokens)) if tokens[i] >= half), len(tokens))
            end = next((i for i in range(middle, len(tokens)) if tokens[i] < half), len(tokens))
            key = tuple(tokens[place:middle])
            for at, token in zip(range(middle - 1, len(tokens)), values.get(key, ()), strict=False):
                answers[at] = token
            values[key], place = tuple(tokens[middle:end]), end
        return answers

    def _keys(self, dice: np.random.Generator) -> list[Word]:
        """Words of which none begins with another; a first token is always left for one more."""
        keys = list[Word]()
        while len(keys) < self.keys:
            word = self._word(dice, 1, self.tokens // 2)
            if not any(word[: len(key)] == key or key[: len(word)] == word for key in keys):
                keys.append(word)
        return keys

    def _word(self, dice: np.random.Generator, first: int, end: int) -> Word:
        return tuple(dice.integers(first, end, size=int(dice.integers(1, self.word + 1))).tolist())
