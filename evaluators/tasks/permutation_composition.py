"""Permutation composition: tokens are permutations; after each, say what all so far make together.

    read      (12)   (23)    (12)
    answer    (12)   (132)   (13)

For five things this is a problem that is complete for NC1, which linear recurrences with diagonal transitions
and attention of fixed depth, being in TC0, are conjectured not to solve at every length (Merrill et al. 2024,
arXiv:2404.08819, section 4 and 5); a recurrence that is not linear can. For two it is parity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from typing import ClassVar

import numpy as np

from evaluators.tasks.base import tasks
from evaluators.tasks.state_tracking import StateTracking
from evaluators.tasks.synthetic import Read
from foundation.settings import setting


@tasks.add
@dataclass(frozen=True, kw_only=True)
class PermutationComposition(StateTracking):
    """All permutations of `things` things are tokens; every place is judged."""

    name: ClassVar[str] = "permutation_composition"
    score_name: ClassVar[str] = "permutation_error"
    score_help: ClassVar[str] = "wrong compositions of the permutations so far"

    length: int = setting(16, help="Tokens of a sequence.", least=2, most=2**20)
    things: int = setting(5, help="Things that are permuted: of five there are 120 tokens.", least=2, most=5)

    @property
    def vocab(self) -> int:
        """Permutations."""
        return math.factorial(self.things)

    @property
    def floor(self) -> float:
        """Any permutation."""
        return 1 - 1 / self.vocab

    def sequence(self, dice: np.random.Generator) -> Read:
        """Uniform permutations; the table of products says what they make."""
        tokens, table = dice.integers(self.vocab, size=self.length).tolist(), _products(self.things)
        answers, so_far = list[int](), 0
        for token in tokens:
            so_far = table[token][so_far]
            answers.append(so_far)
        return tokens, answers

    def solve(self, tokens: Sequence[int]) -> list[int]:
        """Move the things, and see where they are."""
        known = list(permutations(range(self.things)))
        things, answers = list(range(self.things)), list[int]()
        for token in tokens:
            things = [known[token][thing] for thing in things]
            answers.append(known.index(tuple(things)))
        return answers


@lru_cache(maxsize=4)
def _products(things: int) -> tuple[tuple[int, ...], ...]:
    """The number of `first` and then `second`, at [second][first]."""
    every = list(permutations(range(things)))
    number = {permutation: i for i, permutation in enumerate(every)}
    return tuple(
        tuple(number[tuple(second[thing] for thing in first)] for first in every) for second in every
    )
