"""Where a network comes from, as far as its strategy recorded it, and how its trainings went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dashboards.facts.reading import Reading
from nas.engines.base import PROPOSED_BY
from nas.study.lineage import changed_genes
from nas.study.trial import PARENTS, PROPOSER, Trial, TrialState, Value

NONE = "\N{EN DASH}"
"""In place of a gene that an architecture does not have."""

GENERATIONS = 4
"""How far back descent is told."""


@dataclass(frozen=True)
class ParentFacts:
    """A parent: its trial, its best known numbers, and the genes that its child changed (before, after)."""

    digest: str
    number: int
    one_line: str
    values: Mapping[str, Value]
    changed: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Generation:
    """A network of the lineage with its parents; `origin` says where one without any comes from."""

    digest: str
    number: int
    parents: tuple[ParentFacts, ...]
    origin: str = ""


@dataclass(frozen=True)
class TrainingFacts:
    """One training of a network: what for, from whose weights, and its score after so many steps."""

    stage: str
    evaluator: str
    seed: int
    steps: tuple[int, ...]
    scores: tuple[float, ...]
    last: Value


def generations_of(reading: Reading, trial: Trial) -> tuple[Generation, ...]:
    """The network and what it descends from, newest first; empty where nothing is on record."""
    wave, found = [trial], dict[int, Generation]()
    for _ in range(GENERATIONS):
        later: list[Trial] = []
        for child in wave:
            numbers = child.memo.get(PARENTS)
            if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
                continue
            parents = list(reading.whole(numbers).values())
            told = tuple(_parent(reading, parent, child) for parent in parents)
            found[child.number] = Generation(
                child.digest, child.number, told, "" if parents else _origin(child)
            )
            later += [parent for parent in parents if parent.number not in found]
        wave = later
    return tuple(found.values())


def _parent(reading: Reading, parent: Trial, child: Trial) -> ParentFacts:
    changed = {
        path: (NONE if before is None else str(before), NONE if after is None else str(after))
        for path, (before, after) in changed_genes(parent, child).items()
    }
    return ParentFacts(parent.digest, parent.number, reading.one_line(parent), parent.values, changed)


def _origin(trial: Trial) -> str:
    by = trial.memo.get(PROPOSED_BY) or trial.memo.get(PROPOSER) or "random"
    return "drawn at random" if by == "random" else f"proposed by {str(by)[:40]}"


def trainings_of(reading: Reading, digest: str) -> tuple[TrainingFacts, ...]:
    """The trainings of a network on record: looks after fewer steps, rungs, seeds."""
    study = reading.study
    if study.quality is None:
        return ()
    name = study.quality.name
    trials = study.store.trials(study.record, None, digest=digest, on_unreadable=lambda unreadable: None)
    runs: dict[tuple[str, str, int], list[Trial]] = {}
    for trial in trials:
        if trial.state is TrialState.COMPLETE and trial.reused is None and name in trial.values:
            runs.setdefault((trial.stage, trial.fidelity.evaluator, trial.seed), []).append(trial)
    return tuple(_training(key, trials, name) for key, trials in runs.items())


def _training(key: tuple[str, str, int], trials: list[Trial], name: str) -> TrainingFacts:
    scores: dict[int, float] = {}
    for trial in sorted(trials, key=lambda trial: trial.fidelity.steps):
        scores |= dict(trial.values[name].curve)
        scores[trial.fidelity.steps] = trial.values[name].value
    last = max(trials, key=lambda trial: trial.fidelity.steps).values[name]
    return TrainingFacts(*key, tuple(sorted(scores)), tuple(scores[steps] for steps in sorted(scores)), last)
