"""The sandwich rule: which subnets a step of supernet training visits (Yu & Huang 2019, arXiv:1903.05134).

A step visits the largest, the smallest and some random architectures. Largest and smallest refer to sizes:
where a question chooses between kinds of blocks, no kind is the largest, so the kinds are dealt out evenly
(as in FairNAS, Chu et al. 2019, arXiv:1907.01845). Every path has a pack of its kinds; visit after visit
takes the next card, and an empty pack is shuffled anew, so that no kind is ever more than one visit behind.

Of the random architectures some may be taken from the neighbourhood of favoured ones, such as the front of a
search that is under way: mutants, so that training goes where scores will be asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from foundation.errors import SpaceError
from search_spaces.language.genotype import Genotype, Label
from search_spaces.language.space import TRIES, Space
from search_spaces.language.variation import mutate

SUBNETS = 4
LARGEST, SMALLEST, RANDOM = "largest", "smallest", "random"

Deal = Callable[[str, tuple[Label, ...]], Label]
"""Which kind comes next at a path."""


@dataclass(frozen=True)
class Sandwich:
    """The architectures of every step of a training, decided by (seed, step) alone.

    `networks` are visited in a step: the largest one first, the smallest one second, the others random; of
    two, the second is at random the smallest in every third step, and one alone is random. With probability
    `favour` a random one is a mutant of a `favoured` genotype of the space, if there are any.
    """

    space: Space
    seed: int
    networks: int = SUBNETS
    favoured: tuple[Genotype, ...] = ()
    favour: float = 0.5

    def of(self, step: int) -> list[Any]:
        """The architectures of a step, the largest one first; each once.

        Raises:
            SpaceError: the space allows no such architecture.
        """
        dice = Random(f"{self.seed}/{step}")
        specs = []
        for place, role in enumerate(_roles(self.networks, dice)):
            if role == RANDOM and self.favoured and dice.random() < self.favour:
                mutant = mutate(self.space, dice.choice(self.favoured), dice)
                specs.append(self.space.close(mutant))
                continue
            deal = partial(self._dealt, visit=step * self.networks + place)
            specs.append(_legal(self.space, dice, role, deal))
        return list(dict.fromkeys(specs))

    def _dealt(self, path: str, labels: tuple[Label, ...], visit: int) -> Label:
        pack, card = divmod(visit, len(labels))
        return Random(f"{self.seed}/{path}/{pack}").sample(labels, len(labels))[card]


def sandwich(space: Space, dice: Random) -> list[Any]:
    """The architectures of one step by itself: the largest, the smallest, and two random ones.

    At each place they take different kinds of blocks as far as there are enough.

    Raises:
        SpaceError: the space allows no such architecture.
    """
    hands: dict[str, list[Label]] = {}

    def dealt(path: str, labels: tuple[Label, ...], place: int) -> Label:
        hand = hands.setdefault(path, dice.sample(labels, len(labels)))
        return hand[place % len(hand)]

    roles = (LARGEST, SMALLEST, RANDOM, RANDOM)
    return [_legal(space, dice, role, partial(dealt, place=place)) for place, role in enumerate(roles)]


def _roles(networks: int, dice: Random) -> tuple[str, ...]:
    if networks == 1:
        return (RANDOM,)
    if networks == 2:
        return LARGEST, dice.choice((SMALLEST, RANDOM, RANDOM))
    return (LARGEST, SMALLEST, *(RANDOM,) * (networks - 2))


def _legal(space: Space, dice: Random, role: str, deal: Deal) -> Any:
    """An allowed architecture for one place of the sandwich."""
    for attempt in range(TRIES):
        if attempt > TRIES // 2:  # the extreme sizes are not allowed together: settle for random ones
            role = RANDOM
        _, spec = space.draw(partial(_answer, dice=dice, role=role, deal=deal if attempt == 0 else None))
        if space.objection(spec) is None:
            return spec
    raise SpaceError(f"{space.name}: none of {TRIES} subnets is allowed: {space.objection(spec)}")


def _answer(path: str, labels: tuple[Label, ...], *, dice: Random, role: str, deal: Deal | None) -> Label:
    """A size by the role; a kind from the pack that is dealt at its path, or any."""
    if is_size(labels):
        return _size(labels, dice, role)
    return dice.choice(labels) if deal is None else deal(path, labels)


def is_size(labels: tuple[Label, ...]) -> bool:
    """Whether a question asks for a number, of which one is the largest."""
    return all(isinstance(label, (int, float)) and not isinstance(label, bool) for label in labels)


def _size(labels: tuple[Label, ...], dice: Random, role: str) -> Label:
    numbers = [label for label in labels if isinstance(label, (int, float))]
    return max(numbers) if role == LARGEST else min(numbers) if role == SMALLEST else dice.choice(numbers)
