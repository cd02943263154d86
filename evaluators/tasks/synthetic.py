"""What synthetic tasks have in common: sequences that follow a rule, and answers that are right or wrong.

A task is one file: it draws a sequence with its answers, it says how a program would find the answers from
the tokens alone (`solve`: the oracle, which makes no error), and what guessing scores (`floor`). Training
sequences are drawn anew at every step, so nothing can be learned by heart but the rule.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Self, TypeAlias

import numpy as np
import torch
from torch import Tensor

from evaluators.tasks.base import IGNORED, Task
from foundation.errors import SettingError
from foundation.settings import MANY, Settings, setting
from foundation.wording import argument

Read: TypeAlias = tuple[list[int], list[int]]
"""The tokens of a sequence and, for each of them, the answer or `IGNORED`."""

TRAIN, VALID = 1, 2
"""Seeds of the two parts, so that they share nothing but the rule."""

MOST_TOKENS = 2**20


@dataclass(frozen=True, kw_only=True)
class Synthetic(Settings, Task):
    """A rule and its sizes; `windows` sequences of `length` tokens judge by the share of wrong answers."""

    unit: ClassVar[str] = "nats per answer"
    score_unit: ClassVar[str] = "share of wrong answers"
    takes_data: ClassVar[bool] = False

    length: int = setting(32, help="Tokens of a sequence.", least=2, most=MANY)
    windows: int = setting(200, help="Sequences to be judged on.", least=2, most=MANY)

    def __init_subclass__(cls) -> None:
        cls.title = getattr(cls, "name", "")

    @classmethod
    def make(cls, *, data: str | None, length: int | None, windows: int | None) -> Self:
        """Of this length, judged by so many sequences."""
        if data is not None:
            raise SettingError(f"{cls.name} makes its own sequences: leave out {argument('data', data)}")
        sizes = {"length": length, "windows": windows}
        return cls(**{name: size for name, size in sizes.items() if size is not None})

    @abstractmethod
    def sequence(self, dice: np.random.Generator) -> Read:
        """One sequence with its answers, at least one of them."""

    @abstractmethod
    def solve(self, tokens: Sequence[int]) -> list[int]:
        """The answer at each token, from the tokens up to it alone; `IGNORED` where there is none."""

    @property
    @abstractmethod
    def floor(self) -> float:
        """The share of wrong answers of whoever guesses among all that answers may be."""

    @property
    def digest(self) -> str:
        """Names the rule and its sizes; the sequences follow from them."""
        sizes = sorted(self.to_plain().items())
        return hashlib.sha256(f"{self.name}/{sizes}".encode()).hexdigest()[:12]

    def train_batch(self, step: int, seed: int, batch: int) -> tuple[Tensor, Tensor]:
        """New sequences at every step."""
        return _drawn(self, np.random.default_rng((TRAIN, seed, step)), batch)

    def validation(self) -> tuple[Tensor, Tensor]:
        """Sequences of their own."""
        return _validation(self)

    def judge(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The share of wrong answers of each sequence [W]."""
        judged = targets != IGNORED
        wrong = (logits.argmax(-1) != targets) & judged
        return wrong.double().sum(1) / judged.sum(1)

    def require(self, room: bool, what: str) -> None:
        """Raise `SettingError` where sizes do not go together; `what` says what would."""
        if not room:
            raise SettingError(f"{self.name}: {what}")


def _drawn(task: Synthetic, dice: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Tokens and targets [count, T]."""
    sequences = [task.sequence(dice) for _ in range(count)]
    tokens, targets = (torch.tensor(part, dtype=torch.int64) for part in zip(*sequences, strict=True))
    return tokens, targets


@lru_cache(maxsize=16)
def _validation(task: Synthetic) -> tuple[Tensor, Tensor]:
    return _drawn(task, np.random.default_rng(VALID), task.windows)
