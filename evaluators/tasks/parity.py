"""Parity: after every bit, say whether the ones so far are even or odd.

    read      1 1 0 1 0
    answer    1 0 0 1 1

The smallest state that must be tracked: no fixed number of layers of attention or of a recurrence with
positive diagonal transitions does it at every length (Merrill et al. 2024, arXiv:2404.08819; Grazzi et al.
2024, arXiv:2411.12537, section 4), a recurrence that is not linear or has negative eigenvalues does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import xor
from typing import ClassVar

import numpy as np

from evaluators.tasks.base import tasks
from evaluators.tasks.state_tracking import StateTracking
from evaluators.tasks.synthetic import Read


@tasks.add
@dataclass(frozen=True, kw_only=True)
class Parity(StateTracking):
    """Random bits; every place is judged."""

    name: ClassVar[str] = "parity"
    score_name: ClassVar[str] = "parity_error"
    score_help: ClassVar[str] = "wrong parities of the bits so far"

    @property
    def vocab(self) -> int:
        """Bits."""
        return 2

    @property
    def floor(self) -> float:
        """Even or odd."""
        return 0.5

    def sequence(self, dice: np.random.Generator) -> Read:
        """Bits and the parity of their sums."""
        bits = dice.integers(2, size=self.length)
        return bits.tolist(), (bits.cumsum() % 2).tolist()

    def solve(self, tokens: Sequence[int]) -> list[int]:
        """Flip at every one."""
        return list(accumulate(tokens, xor))
