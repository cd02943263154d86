"""Multi-query associative recall: say the value that went with a key, each time the key comes again.

    read      k1 v1 k2 v2 k3 v3 k4 v4 .  .  k3 .  k1 .  .  k4 k2 .
    answer                                  v3    v1       v4 v2

Keys are drawn from one half of the vocabulary, values from the other; token 0 fills the gaps. It asks for
what separates mixers: finding the place of an earlier token by its content. Guessing among all values is
right once in `vocab / 2`, guessing among those that were read once in `pairs`. Whether a network gets it is
all or nothing, and the jump comes at a random step: use several seeds, as a gate, never as a ranking.

After Arora et al. 2023, arXiv:2312.04927, section 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from evaluators.tasks.base import IGNORED, tasks
from evaluators.tasks.synthetic import MOST_TOKENS, TRAIN, VALID, Read, Synthetic
from foundation.settings import MANY, setting


@tasks.add
@dataclass(frozen=True, kw_only=True)
class Recall(Synthetic):
    """`sequences` fixed sequences of `length` tokens with `pairs` of key and value; `windows` judge."""

    name: ClassVar[str] = "recall"
    score_name: ClassVar[str] = "recall_error"
    score_help: ClassVar[str] = (
        "wrong answers in multi-query associative recall (needs a space with vocab 64)"
    )

    tokens: int = setting(64, help="Fillers, keys and values.", least=4, most=MOST_TOKENS)
    length: int = setting(32, help="Tokens of a sequence.", least=3, most=MANY)
    pairs: int = setting(4, help="Keys, each with its value.", least=1, most=MANY)
    sequences: int = setting(4000, help="Sequences to learn from, again and again.", least=1, most=MANY)
    windows: int = setting(500, help="Sequences to be judged on.", least=2, most=MANY)

    def __post_init__(self) -> None:
        super().__post_init__()
        room = min(self.tokens // 2 - 1, self.length // 3)
        sizes = f"{self.tokens} tokens and length {self.length}"
        self.require(self.pairs <= room, f"{sizes} have room for 1 to {room} pairs, got {self.pairs}")

    @property
    def vocab(self) -> int:
        """Filler, keys and values."""
        return self.tokens

    @property
    def floor(self) -> float:
        """Any value."""
        return 1 - 1 / (self.tokens - self.tokens // 2)

    @property
    def digest(self) -> str:
        """Names the rule and its sizes; the sequences follow from them."""
        sizes = (self.tokens, self.length, self.pairs, self.sequences, self.windows)
        return hashlib.sha256(f"{self.name}/{sizes}".encode()).hexdigest()[:12]

    def train_batch(self, step: int, seed: int, batch: int) -> tuple[Tensor, Tensor]:
        """The next sequences of an endless row of epochs, each of which shuffles all sequences."""
        read, answers = _sequences(self, TRAIN, self.sequences)
        first = step * batch
        chosen = [
            _order(seed, index // self.sequences, self.sequences)[index % self.sequences]
            for index in range(first, first + batch)
        ]
        return read[chosen], answers[chosen]

    def validation(self) -> tuple[Tensor, Tensor]:
        """Sequences of their own."""
        return _sequences(self, VALID, self.windows)

    def sequence(self, dice: np.random.Generator) -> Read:
        """All pairs, then all keys again, in any order with gaps between them."""
        read, answers = [0] * self.length, [IGNORED] * self.length
        half, shown = self.tokens // 2, 2 * self.pairs
        keys = 1 + dice.permutation(half - 1)[: self.pairs]
        values = half + dice.permutation(self.tokens - half)[: self.pairs]
        places = shown + dice.permutation(self.length - shown)[: self.pairs]
        for i, (key, value) in enumerate(zip(keys.tolist(), values.tolist(), strict=True)):
            read[2 * i : 2 * i + 2] = key, value
            read[places[i]], answers[places[i]] = key, value
        return read, answers

    def solve(self, tokens: Sequence[int]) -> list[int]:
        """Keep the pairs, and look every later key up."""
        shown = 2 * self.pairs
        values = dict(zip(tokens[0:shown:2], tokens[1:shown:2], strict=True))
        return [IGNORED] * shown + [values.get(token, IGNORED) for token in tokens[shown:]]


@lru_cache(maxsize=8)
def _order(seed: int, epoch: int, count: int) -> list[int]:
    order: list[int] = np.random.default_rng((seed, epoch)).permutation(count).tolist()
    return order


@lru_cache(maxsize=8)
def _sequences(task: Recall, part: int, count: int) -> tuple[Tensor, Tensor]:
    """Tokens and targets [count, T]."""
    drawn = [task.sequence(np.random.default_rng((part, i))) for i in range(count)]
    tokens, targets = (torch.tensor(both, dtype=torch.int64) for both in zip(*drawn, strict=True))
    return tokens, targets
