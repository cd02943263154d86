"""Noisy in-context recall: a stream of keys and values, with tokens between the pairs that mean nothing.

    read      c 3  x  a 1  y z  c 3  a 1  x
    answer                      3    1

Noise has tokens of its own. It asks for what a recurrence needs a gate for: not to take in what does not
matter.

After Poli et al. 2024, arXiv:2403.17844, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from evaluators.tasks.base import IGNORED, tasks
from evaluators.tasks.in_context_recall import InContextRecall
from evaluators.tasks.synthetic import MOST_TOKENS, Read
from foundation.settings import setting


@tasks.add
@dataclass(frozen=True, kw_only=True)
class NoisyRecall(InContextRecall):
    """As in-context recall, with a share of `noise` in every sequence."""

    name: ClassVar[str] = "noisy_recall"
    score_name: ClassVar[str] = "noisy_recall_error"
    score_help: ClassVar[str] = "wrong values of keys that came before, among tokens that mean nothing"

    length: int = setting(40, help="Tokens of a sequence.", least=2, most=2**20)
    noise: float = setting(0.2, help="Share of tokens that mean nothing.", least=0, most=0.9)
    noise_tokens: int = setting(16, help="Tokens that noise has.", least=1, most=MOST_TOKENS)

    def __post_init__(self) -> None:
        super().__post_init__()
        pairs = (self.length - self.noise_places) // 2
        self.require(self.keys < pairs, f"room for 1 to {pairs - 1} keys beside the noise, got {self.keys}")

    @property
    def vocab(self) -> int:
        """Keys, values and noise, which has the last tokens."""
        return self.tokens + self.noise_tokens

    @property
    def noise_places(self) -> int:
        """Tokens of a sequence that are noise; an odd token beside the pairs is one."""
        places = int(self.noise * self.length)
        return places + (self.length - places) % 2

    def sequence(self, dice: np.random.Generator) -> Read:
        """A stream of whole pairs, with noise before, between and behind them."""
        pairs = (self.length - self.noise_places) // 2
        told, answered = super().sequence(dice)
        tokens, answers = list[int](), list[int]()
        slots = [True] * pairs + [False] * self.noise_places
        stream = iter(range(pairs))
        for is_pair in dice.permutation(slots).tolist():
            if is_pair:
                at = 2 * next(stream)
                tokens += told[at : at + 2]
                answers += answered[at : at + 2]
            else:
                tokens.append(int(dice.integers(self.tokens, self.vocab)))
                answers.append(IGNORED)
        return tokens, answers

    def solve(self, tokens: Sequence[int]) -> list[int]:
        """Leave the noise out, and solve the rest."""
        clean = [token for token in tokens if token < self.tokens]
        found = iter(super().solve(clean))
        return [next(found) if token < self.tokens else IGNORED for token in tokens]
