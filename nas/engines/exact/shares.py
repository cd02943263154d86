"""One budget shared out among parts: the values, one for each part, that do the least damage in sum."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from nas.engines.exact.integer_program import SECONDS, ChoiceProblem
from nas.engines.exact.slots import Option, Slot

V = TypeVar("V", bound=Hashable)

AMOUNT = "amount"


@dataclass(frozen=True)
class Effect:
    """What a value does in one part, and what it takes there."""

    damage: float
    amount: float


@dataclass(frozen=True)
class Shares(Generic[V]):
    """The value of each part, and the sums of what these do and take; `proven` as in `Solution`."""

    values: Mapping[str, V]
    damage: float
    amount: float
    proven: bool


def shared_out(effects: Mapping[str, Mapping[V, Effect]], like: V, *, seconds: float = SECONDS) -> Shares[V]:
    """The least damage that takes no more than the value `like` in every part.

    Raises:
        SettingError: there are no parts, or an effect is not finite.
        Unsolved: nothing was found in `seconds`.
    """
    slots = [
        Slot(part, tuple(Option(v, effect.damage, {AMOUNT: effect.amount}) for v, effect in found.items()))
        for part, found in effects.items()
    ]
    budget = math.fsum(found[like].amount for found in effects.values())
    best = ChoiceProblem(slots).best({AMOUNT: budget}, seconds=seconds)
    keys = {part: list(found) for part, found in effects.items()}
    values = {part: keys[part][i] for part, i in zip(effects, best.picks, strict=True)}
    return Shares(values, best.score, best.costs[AMOUNT], best.proven)
