"""Allowed architectures near any other, where hardly any is allowed, for a bounded number of looks.

From where a proposal lies, answers are changed one at a time, and where that leads no further two at a time,
towards less violation. Where this ends too high, the answers of an allowed architecture are taken over one by
one, up to the first that is allowed; and from there, if it was tried before, to one beside it. So repaired
proposals resemble what was proposed, and differ from each other as proposals do.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from random import Random
from typing import Any, NamedTuple, TypeAlias

from search_spaces.language.feasible import Tree, answers
from search_spaces.language.genotype import Genotype

Height: TypeAlias = "tuple[float, ...]"
"""How far an architecture is from being allowed, most important first: zeros where it is."""

LOOKS = 400
"""Architectures that one repair looks at, at most."""

PAIRS = 60
"""Pairs of changes that are tried where no single one leads on."""

CHANGES = (1, 1, 2, 2, 3)
"""How many answers may be changed at once to get away from what was tried."""


class Place(NamedTuple):
    """An architecture and its height."""

    genotype: Genotype
    spec: Any
    height: Height

    @property
    def allowed(self) -> bool:
        """Whether it violates nothing."""
        return not any(self.height)


def repaired(
    tree: Tree,
    start: Genotype,
    known: Sequence[Genotype],
    height: Callable[[Any], Height],
    *,
    dice: Random,
    tried: Container[str] = (),
) -> tuple[Genotype, Any]:
    """An allowed architecture near `start`, of a digest that was not `tried` if one is found.

    `known` are allowed architectures, at least one.
    """
    repair = _Repair(tree, height, dice)
    here = repair.downhill(repair.at(start), LOOKS // 2)
    if not here.allowed:
        here = repair.towards(here, repair.at(dice.choice(known)))
    while here.genotype.digest in tried and repair.left > 0:
        beside = repair.downhill(repair.beside(here, dice.choice(CHANGES)), LOOKS // 4)
        here = beside if beside.allowed else here
    return here.genotype, here.spec


class _Repair:
    """One repair, with the looks that it has left."""

    def __init__(self, tree: Tree, height: Callable[[Any], Height], dice: Random) -> None:
        self.tree, self.height, self.dice, self.left = tree, height, dice, LOOKS
        self.labels = {gene.path: gene.labels for gene in tree.genes}

    def at(self, genotype: Genotype) -> Place:
        """The architecture of these answers; what they leave open is answered by chance."""
        self.left -= 1
        whole, spec = self.tree.draw(answers(genotype.genes, self.dice))
        return Place(whole, spec, self.height(spec))

    def downhill(self, here: Place, most: int) -> Place:
        """The lowest place that single changes, then pairs, lead to within so many looks."""
        end = max(self.left - most, 0)
        while not here.allowed and self.left > end:
            lower = self._round(here, end)
            if lower.height >= here.height:
                lower = self._pair(here, end)
            if lower.height >= here.height:
                return here
            here = lower
        return here

    def _round(self, here: Place, end: int) -> Place:
        """Every answer changed once, where that is no higher."""
        for path in self.dice.sample(sorted(here.genotype.genes), len(here.genotype.genes)):
            if path not in here.genotype.genes:  # another change closed the question
                continue
            for label in self.dice.sample(self.labels[path], len(self.labels[path])):
                if here.allowed or self.left <= end:
                    return here
                if label == here.genotype.genes[path]:
                    continue
                other = self.at(Genotype({**here.genotype.genes, path: label}))
                if other.height <= here.height:  # along a plateau, too
                    done = other.height < here.height or path not in other.genotype.genes
                    here = other
                    if done:
                        break
        return here

    def _pair(self, here: Place, end: int) -> Place:
        """Two answers changed at once, where that is lower."""
        for _ in range(PAIRS):
            if self.left <= end:
                break
            other = self.beside(here, 2)
            if other.height < here.height:
                return other
        return here

    def beside(self, here: Place, changes: int) -> Place:
        """An architecture that answers so many questions otherwise."""
        open_paths = sorted(path for path in here.genotype.genes if len(self.labels[path]) > 1)
        chosen = self.dice.sample(open_paths, min(changes, len(open_paths)))
        other = {
            path: self.dice.choice(
                [label for label in self.labels[path] if label != here.genotype.genes[path]]
            )
            for path in chosen
        }
        return self.at(Genotype({**here.genotype.genes, **other}))

    def towards(self, here: Place, goal: Place) -> Place:
        """The first allowed architecture on the way to `goal`, whose answers are taken over one by one."""
        order = self.dice.sample(sorted(goal.genotype.genes), len(goal.genotype.genes))
        taken = dict(here.genotype.genes)
        for path in order:
            if self.left <= 0:
                break
            taken[path] = goal.genotype.genes[path]
            place = self.at(Genotype({**goal.genotype.genes, **taken}))
            if place.allowed:
                return place
        return goal
