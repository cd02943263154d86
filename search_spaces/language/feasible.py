"""Allowed architectures where hardly any is: a search for one, and a way to it from any other.

Chance finds what is not rare. What is rare is looked for among all architectures where these can be listed,
and else by changing one answer at a time, towards fewer and smaller violations. From any architecture, the
walk to an allowed one takes over its answers, one by one, and stops at the first architecture that is
allowed: so proposals of any kind become allowed ones that resemble them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple, Protocol, TypeAlias

from search_spaces.language.closer import Answer
from search_spaces.language.genotype import Genotype, Label

Violation: TypeAlias = Callable[[Any], tuple[float, ...]]
"""How far an architecture is from being allowed, most important first: zeros where it is."""

DRAWS = 1000
"""Random architectures that are looked at first."""

LISTED = 2**17
"""The largest space of which every architecture is looked at."""

CHANGED = 2**14
"""Architectures that are looked at, one answer changed at a time."""


class Gene(Protocol):
    """A question with its labels."""

    @property
    def path(self) -> str:
        """Its name."""

    @property
    def labels(self) -> tuple[Label, ...]:
        """Its answers."""


class Tree(Protocol):
    """What is needed of a space."""

    @property
    def genes(self) -> Sequence[Gene]:
        """Every question."""

    def size(self) -> int:
        """How many architectures it has."""

    def enumerate(self) -> Iterator[Genotype]:
        """All of them."""

    def draw(self, answer: Answer) -> tuple[Genotype, Any]:
        """One of them, unchecked."""


class Nearest(NamedTuple):
    """The architecture of the least violation among `tried`; `complete` says that these were all."""

    genotype: Genotype
    violation: tuple[float, ...]
    tried: int
    complete: bool

    @property
    def allowed(self) -> bool:
        """Whether it violates nothing."""
        return not any(self.violation)


def nearest(
    tree: Tree, violation: Violation, starts: Iterable[Genotype] = (), *, patience: int = CHANGED
) -> Nearest:
    """The first allowed architecture that is found, or the one that comes nearest.

    A large space is given up after so many ways downhill in a row, its `patience`, that end no lower.
    """
    looking = _Looking(tree, violation)
    looking.at(looking.replayed(start) for start in starts)
    looking.at(looking.drawn(DRAWS))
    complete = False
    if not looking.found and tree.size() <= LISTED:
        looking.at(looking.replayed(genotype) for genotype in tree.enumerate())
        complete = not looking.found
    elif not looking.found:
        looking.descend(CHANGED, patience)
    tried = tree.size() if complete else looking.tried
    return Nearest(looking.best, looking.least, tried, complete)


def walk(tree: Tree, start: Genotype, goal: Genotype, allowed: Callable[[Any], bool]) -> tuple[Genotype, Any]:
    """From an architecture to `goal`, which is allowed, one answer at a time: the first that is allowed."""
    order = sorted(goal.genes)
    Random(f"{start.digest}/{goal.digest}").shuffle(order)
    taken = dict[str, Label]()
    for path in [None, *order]:
        if path is not None:
            taken[path] = goal.genes[path]
        genotype, spec = tree.draw(answers({**goal.genes, **start.genes, **taken}))
        if allowed(spec):
            return genotype, spec
    return tree.draw(answers(goal.genes))


class _Looking:
    """The best architecture so far."""

    def __init__(self, tree: Tree, violation: Violation) -> None:
        self.tree, self.violation = tree, violation
        self.dice, self.tried = Random("allowed"), 0
        self.labels = {gene.path: gene.labels for gene in tree.genes}
        self.best = Genotype({})
        self.least: tuple[float, ...] = (float("inf"),)

    @property
    def found(self) -> bool:
        return self.tried > 0 and not any(self.least)

    def at(self, architectures: Iterable[tuple[Genotype, Any]]) -> None:
        """Look at these, up to the first that is allowed."""
        if not self.found:
            for genotype, spec in architectures:
                if self.look(genotype, spec) and self.found:
                    return

    def look(self, genotype: Genotype, spec: Any) -> bool:
        """Whether this is better than all before."""
        self.tried += 1
        violation = self.violation(spec)
        if violation < self.least:
            self.best, self.least = genotype, violation
            return True
        return False

    def drawn(self, count: int) -> Iterator[tuple[Genotype, Any]]:
        for _ in range(count):
            yield self.tree.draw(lambda path, labels: self.dice.choice(labels))

    def replayed(self, genotype: Genotype) -> tuple[Genotype, Any]:
        return self.tree.draw(answers(genotype.genes, self.dice))

    def descend(self, most: int, patience: int) -> None:
        """Change one answer at a time; where none helps, start again beside the best, at most so often."""
        end, lowest, fruitless = self.tried + most, self.least, 0
        here, height = self.best, self.least
        while self.tried < end and not self.found and fruitless < patience:
            moved = self._pass(here, height, end)
            if moved is not None:
                here, height = moved
            else:
                fruitless = 0 if self.least < lowest else fruitless + 1
                lowest = self.least
                here, spec = self._beside(self.best)
                self.look(here, spec)
                height = self.violation(spec)

    def _pass(
        self, here: Genotype, height: tuple[float, ...], end: int
    ) -> tuple[Genotype, tuple[float, ...]] | None:
        """The architecture after one change of every question; None where no change was an improvement."""
        began = height
        for path in self.dice.sample(sorted(here.genes), len(here.genes)):
            labels = self.labels[path]
            for label in self.dice.sample(labels, len(labels)):
                if path not in here.genes or label == here.genes[path] or self.tried >= end:
                    continue
                other, spec = self.replayed(Genotype({**here.genes, path: label}))
                self.look(other, spec)
                violation = self.violation(spec)
                if violation <= height:  # along a plateau, too
                    here, height = other, violation
                if self.found:
                    return None
        return (here, height) if height < began else None

    def _beside(self, genotype: Genotype) -> tuple[Genotype, Any]:
        """An architecture that answers some questions anew."""
        paths = sorted(genotype.genes)
        count = min(len(paths), self.dice.choice((1, 2, 3, 4, 6, 8)))
        kept = set(paths) - set(self.dice.sample(paths, count))
        return self.tree.draw(answers({path: genotype.genes[path] for path in sorted(kept)}, self.dice))


def answers(genes: Mapping[str, Label], dice: Random | None = None) -> Answer:
    """These answers; to what they leave open, any (the first without dice)."""

    def answer(path: str, labels: tuple[Label, ...]) -> Label:
        if path in genes:
            return genes[path]
        return labels[0] if dice is None else dice.choice(labels)

    return answer
