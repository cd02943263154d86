"""What an integer program chooses from: slots, the options of each, and the solution that fills them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from foundation.errors import SettingError

Budgets: TypeAlias = "Mapping[str, float]"
"""The most that a cost may add up to, by the name of the cost."""

Picks: TypeAlias = tuple[int, ...]
"""The number of the chosen option in each slot."""


@dataclass(frozen=True)
class Option:
    """One way to fill a slot: what it adds to the score and to each cost, and when it is allowed there.

    `when` gives, by gene, the answers under which it is allowed; a gene that is not named does not matter. A
    cost that is not named is zero.
    """

    name: Hashable
    score: float
    costs: Mapping[str, float] = field(default_factory=dict)
    when: Mapping[str, frozenset[int]] = field(default_factory=dict)

    def amount(self, cost: str) -> float:
        """What it adds to a cost; its score where the name is empty."""
        return self.costs.get(cost, 0.0) if cost else self.score


@dataclass(frozen=True)
class Slot:
    """Filled by exactly one of its options."""

    name: str
    options: tuple[Option, ...]

    def check(self) -> None:
        """Raise `SettingError` for a slot without options, or an option that can never be chosen."""
        if not self.options:
            raise SettingError(f"{self.name}: there must be an option at least")
        for option in self.options:
            for what, value in (("score", option.score), *option.costs.items()):
                if not math.isfinite(value):
                    raise SettingError(f"{self.name}: {what} of {option.name!r} must be finite, got {value}")
            for gene, allowed in option.when.items():
                if not allowed:
                    raise SettingError(f"{self.name}: {option.name!r} is allowed under no answer of {gene}")


@dataclass(frozen=True)
class Solution:
    """One option per slot, the answers of the genes, and what they add up to.

    `proven` says that nothing better exists; it is false where time ran out first.
    """

    picks: Picks
    answers: Mapping[str, int]
    score: float
    costs: Mapping[str, float]
    proven: bool = True

    def exceeds(self, budgets: Budgets) -> bool:
        """Whether it costs more than one of these budgets."""
        return any(self.costs[name] > bound for name, bound in budgets.items())
