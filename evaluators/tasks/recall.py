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
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from evaluators.tasks.base import IGNORED, Task, tasks
from foundation.errors import SettingError
from foundation.settings import MANY, Settings, setting
from foundation.wording import argument

TRAIN, VALID = 1, 2
"""Seeds of the two parts, so that they share nothing but the rule."""


@tasks.add
@dataclass(frozen=True)
class Recall(Settings, Task):
    """`sequences` fixed sequences of `length` tokens with `pairs` of key and value; `windows` judge."""

    title: ClassVar[str] = "recall"
    name: ClassVar[str] = "recall"
    takes_data: ClassVar[bool] = False
    unit: ClassVar[str] = "nats per answer"
    score_name: ClassVar[str] = "recall_error"
    score_help: ClassVar[str] = (
        "wrong answers in multi-query associative recall (needs a space with vocab 64)"
    )
    score_unit: ClassVar[str] = "share of wrong answers"

    tokens: int = setting(64, help="Fillers, keys and values.", least=4, most=2**20)
    length: int = setting(32, help="Tokens of a sequence.", least=3, most=MANY)
    pairs: int = setting(4, help="Keys, each with its value.", least=1, most=MANY)
    sequences: int = setting(4000, help="Sequences to learn from, again and again.", least=1, most=MANY)
    windows: int = setting(500, help="Sequences to be judged on.", least=2, most=MANY)

    def __post_init__(self) -> None:
        super().__post_init__()
        room = min(self.tokens // 2 - 1, self.length // 3)
        if not 1 <= self.pairs <= room:
            raise SettingError(
                f"recall: {self.tokens} tokens and length {self.length} have room for 1 to {room} pairs,"
                f" got {self.pairs}"
            )

    @classmethod
    def make(cls, *, data: str | None, length: int | None, windows: int | None) -> Recall:
        """Of this length, judged by so many sequences."""
        if data is not None:
            raise SettingError(f"recall makes its own sequences: leave out {argument('data', data)}")
        return cls(length=length or cls.length, windows=windows or cls.windows)

    @property
    def vocab(self) -> int:
        """Filler, keys and values."""
        return self.tokens

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

    def judge(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The share of wrong answers of each sequence [W]."""
        judged = targets != IGNORED
        wrong = (logits.argmax(-1) != targets) & judged
        return wrong.double().sum(1) / judged.sum(1)


@lru_cache(maxsize=8)
def _order(seed: int, epoch: int, count: int) -> list[int]:
    order: list[int] = np.random.default_rng((seed, epoch)).permutation(count).tolist()
    return order


@lru_cache(maxsize=8)
def _sequences(task: Recall, part: int, count: int) -> tuple[Tensor, Tensor]:
    """Tokens and targets [count, T]."""
    read = np.zeros((count, task.length), dtype=np.int64)
    answers = np.full((count, task.length), IGNORED, dtype=np.int64)
    half, shown = task.tokens // 2, 2 * task.pairs
    for i in range(count):
        dice = np.random.default_rng((part, i))
        keys = 1 + dice.permutation(half - 1)[: task.pairs]
        values = half + dice.permutation(task.tokens - half)[: task.pairs]
        places = shown + dice.permutation(task.length - shown)[: task.pairs]
        read[i, 0:shown:2], read[i, 1:shown:2] = keys, values
        read[i, places], answers[i, places] = keys, values
    return torch.from_numpy(read), torch.from_numpy(answers)
