"""Mutation, crossover and neighbourhood: three ways to answer the questions of a space.

Each is an answer to `draw`, so a child is always canonical: questions that a changed branch opens are
answered afresh, and answers that are no longer asked for disappear.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any

from foundation.errors import SpaceError
from search_spaces.language.genotype import Genotype, Label
from search_spaces.language.space import TRIES, Space


def mutate(space: Space, parent: Genotype, dice: Random, changes: int = 1) -> Genotype:
    """A child that answers `changes` of the parent's questions differently, where they have two answers.

    Raises:
        SpaceError: there is no allowed child among the candidates that were tried.
    """
    for _ in range(TRIES):
        child, spec = mutant(space, parent, dice, changes)
        if space.objection(spec) is None:
            return child
    raise SpaceError(f"{space.name}: none of {TRIES} mutants of {parent.digest} is allowed")


def mutant(space: Space, parent: Genotype, dice: Random, changes: int = 1) -> tuple[Genotype, Any]:
    """A child as `mutate` makes it, with its architecture, unchecked."""
    candidates = changeable(space, parent) or sorted(parent.genes)
    changed = set(dice.sample(candidates, min(changes, len(candidates))))
    return space.draw(partial(_answer, parent=parent, changed=changed, dice=dice))


def changeable(space: Space, genotype: Genotype) -> list[str]:
    """The paths of a genotype that have another answer, sorted."""
    choices = {gene.path for gene in space.genes if len(gene.labels) > 1}
    return sorted(choices & set(genotype.genes))


def neighbour(space: Space, centre: Genotype, path: str, label: Label, dice: Random) -> tuple[Genotype, Any]:
    """What answers one question of `centre` otherwise, with its architecture, unchecked."""
    changed = Genotype({**centre.genes, path: label})
    return space.draw(partial(_answer, parent=changed, changed=set(), dice=dice))


def _answer(
    path: str, labels: tuple[Label, ...], *, parent: Genotype, changed: set[str], dice: Random
) -> Label:
    """The parent's answer, unless it is to change or was never asked for."""
    if path not in parent.genes:
        return dice.choice(labels)
    if path not in changed:
        return parent.genes[path]
    return dice.choice([label for label in labels if label != parent.genes[path]] or labels)


def crossover(space: Space, first: Genotype, second: Genotype, dice: Random) -> Genotype:
    """A child whose every answer is one of its parents', or fresh where neither was asked.

    Raises:
        SpaceError: there is no allowed child among the candidates that were tried.
    """

    def answer(path: str, labels: tuple[Label, ...]) -> Label:
        inherited = [parent.genes[path] for parent in (first, second) if path in parent.genes]
        return dice.choice(inherited or labels)

    return space.propose(answer)


def neighbours(space: Space, centre: Genotype, dice: Random) -> Iterator[Genotype]:
    """Every allowed genotype that answers one question of `centre` otherwise (fresh questions by `dice`)."""
    labels_at = {gene.path: gene.labels for gene in space.genes}
    for path in sorted(centre.genes):
        for label in labels_at[path]:
            if label == centre.genes[path]:
                continue
            genotype, spec = neighbour(space, centre, path, label, dice)
            if space.objection(spec) is None:
                yield genotype
