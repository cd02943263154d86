"""Where a network comes from: the trials that its strategy made it of, and what differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from foundation.errors import SettingError, StoreError
from nas.engines.base import PROPOSED_BY, RANDOM, UNIFORM
from nas.study.study import Study
from nas.study.trial import PARENTS, Trial
from search_spaces.language.genotype import Label


@dataclass(frozen=True)
class Parent:
    """A parent, and the genes in which the child differs: the parent's answer and the child's.

    None stands for a question that an architecture does not ask.
    """

    trial: Trial
    changed: Mapping[str, tuple[Label | None, Label | None]]

    def __repr__(self) -> str:
        return f"<Parent {self.trial.number} {self.trial.digest}, {len(self.changed)} genes changed>"


@dataclass(frozen=True)
class Ancestor:
    """A trial of a lineage, and its parents."""

    trial: Trial
    parents: tuple[Parent, ...]

    @property
    def origin(self) -> str:
        """Where a network without parents comes from, in words."""
        by = self.trial.memo.get(PROPOSED_BY, RANDOM)
        if by == UNIFORM:
            return "changed alike in all layers"
        return "drawn at random" if by == RANDOM else f"found by {by}"


def parents_of(study: Study, trial: Trial) -> tuple[Parent, ...]:
    """The parents of a network; empty for one that was drawn at random, or found by an engine.

    Raises:
        SettingError: nothing is on record about where it comes from.
    """
    return lineage_of(study, trial, generations=1)[0].parents


def lineage_of(study: Study, trial: Trial, *, generations: int | None = None) -> tuple[Ancestor, ...]:
    """The network and all that it descends from, newest first; with `generations` only so far back.

    Raises:
        SettingError: nothing is on record about where it comes from.
        StoreError: what is on record cannot be read.
    """
    trials = {other.number: other for other in study.trials()}
    wave, lineage = [_as_proposed(trial, trials)], dict[int, Ancestor]()
    while wave and (generations is None or generations > 0):
        for child in wave:
            parents = tuple(Parent(p, changed_genes(p, child)) for p in _recorded(study, child, trials))
            lineage[child.number] = Ancestor(child, parents)
        found = {p.trial.number: p.trial for child in wave for p in lineage[child.number].parents}
        wave = [parent for number, parent in found.items() if number not in lineage]
        generations = None if generations is None else generations - 1
    return tuple(lineage[number] for number in sorted(lineage, reverse=True))


def _recorded(study: Study, child: Trial, trials: Mapping[int, Trial]) -> list[Trial]:
    """The trials on record as parents."""
    if PARENTS not in child.memo:
        raise SettingError(
            f"nothing was recorded about the parents of trial {child.number}: its strategy records none, or"
            f" study {study.name} was searched by an older nas"
        )
    numbers = child.memo[PARENTS]
    if not isinstance(numbers, list) or not all(isinstance(n, int) and n in trials for n in numbers):
        raise StoreError(f"the parents of trial {child.number} of study {study.name} cannot be read")
    return [trials[number] for number in numbers]


def _as_proposed(trial: Trial, trials: Mapping[int, Trial]) -> Trial:
    """The trial of the search in which a strategy proposed the network, for one of another stage."""
    if trial.stage == "search":
        return trial
    return next((other for other in trials.values() if other.digest == trial.digest), trial)


def changed_genes(parent: Trial, child: Trial) -> dict[str, tuple[Label | None, Label | None]]:
    """The genes in which a child differs from a parent: the parent's answer and the child's."""
    theirs, mine = parent.genotype.genes, child.genotype.genes
    paths = dict.fromkeys([*mine, *theirs])
    return {p: (theirs.get(p), mine.get(p)) for p in paths if theirs.get(p) != mine.get(p)}
