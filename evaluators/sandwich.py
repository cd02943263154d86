"""The sandwich rule: which subnets a step of supernet training visits (Yu & Huang 2019, arXiv:1903.05134).

Every step visits the largest, the smallest and two random architectures. Largest and smallest speak of sizes:
where a question chooses between kinds of blocks, no kind is the largest, so the kinds are dealt out evenly
(as in FairNAS, Chu et al. 2019, arXiv:1907.01845): at each place the four subnets of a step take different
kinds as far as there are enough.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

from search_spaces.errors import SpaceError
from search_spaces.genotype import Label
from search_spaces.space import TRIES, Space

SUBNETS = 4


def sandwich(space: Space, dice: Random) -> list[Any]:
    """The architectures of one step: the largest, the smallest, and two random ones.

    Raises:
        SpaceError: the space allows no such architecture.
    """
    hands: dict[str, list[Label]] = {}
    return [_legal(space, dice, place, hands) for place in range(SUBNETS)]


def _legal(space: Space, dice: Random, place: int, hands: dict[str, list[Label]]) -> Any:
    """An allowed architecture for one place of the sandwich."""
    for attempt in range(TRIES):
        if attempt > TRIES // 2:  # the extreme sizes are not allowed together: settle for random ones
            place = SUBNETS - 1
        _, spec = space.draw(partial(_answer, dice=dice, place=place, hands=hands, dealt=attempt == 0))
        if space.objection(spec) is None:
            return spec
    raise SpaceError(f"{space.name}: none of {TRIES} subnets is allowed: {space.objection(spec)}")


def _answer(
    path: str,
    labels: tuple[Label, ...],
    *,
    dice: Random,
    place: int,
    hands: dict[str, list[Label]],
    dealt: bool,
) -> Label:
    """A size by the place; a kind from the hand that is dealt at its path, or any."""
    if _is_size(labels):
        return _size(labels, dice, place)
    hand = hands.setdefault(path, dice.sample(labels, len(labels)))
    return hand[place % len(hand)] if dealt else dice.choice(labels)


def _is_size(labels: tuple[Label, ...]) -> bool:
    return all(isinstance(label, (int, float)) and not isinstance(label, bool) for label in labels)


def _size(labels: tuple[Label, ...], dice: Random, place: int) -> Label:
    numbers = [label for label in labels if isinstance(label, (int, float))]
    return max(numbers) if place == 0 else min(numbers) if place == 1 else dice.choice(numbers)
