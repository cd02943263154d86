"""Given architectures are scored as trials of a stage: finalists, or the random networks of a validation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import TypeAlias

from nas.executors.base import Executor, Outcome, WorkItem
from nas.study.deaths import after_death, stopped
from nas.study.study import Study
from nas.study.trial import Fidelity, Trial, TrialState, Value
from search_spaces.language.genotype import Genotype

OnTrial: TypeAlias = Callable[[Trial], None]
"""Called with every trial that has ended."""


def score_all(
    study: Study,
    genotypes: Sequence[Genotype],
    executor: Executor,
    *,
    stage: str,
    fidelity: Fidelity,
    seed: int | None = None,
    on_trial: OnTrial = lambda trial: None,
) -> list[Trial]:
    """Score these architectures at one fidelity as trials of a stage; those on record are not scored again.

    The `seed` is that of the plan where none is given. Returns one trial per genotype, in their order. A
    trial that ran when the driver died is run again.
    """
    seed = study.plan.seed if seed is None else seed
    trials = _trials(study, genotypes, stage, fidelity, seed=seed)
    if executor.in_this_process:
        _suspect_first(study, trials, stage)
    for trial in trials.values():
        if trial.state is not TrialState.RUNNING:
            on_trial(trial)
    running = {trial.number: trial for trial in trials.values() if trial.state is TrialState.RUNNING}
    study.store.save(study.record.id, running.values())
    executor.submit([WorkItem(t.number, study.spec(t), fidelity.steps, t.seed) for t in running.values()])
    costs = recorded_values(study)
    try:
        while running:
            for outcome in executor.collect():
                trial = running.pop(outcome.number)
                trials[trial.genotype] = trial = _ended(trial, outcome, costs.get(trial.digest, {}))
                study.store.save(study.record.id, [trial])
                on_trial(trial)
    finally:
        if running:  # a stop in good order: what runs is no suspect
            study.store.save(study.record.id, map(stopped, running.values()))
    return [trials[genotype] for genotype in genotypes]


def _suspect_first(study: Study, trials: dict[Genotype, Trial], stage: str) -> None:
    """Judge the trial that was being scored when a former process died: the first that still runs."""
    numbers = {trial.number for trial in study.trials(stage) if trial.state is TrialState.RUNNING}
    first = next((t for t in trials.values() if t.state is TrialState.RUNNING and t.number in numbers), None)
    if first is not None:
        trials[first.genotype] = judged = after_death(first)
        study.store.save(study.record.id, [judged])


def _trials(
    study: Study, genotypes: Sequence[Genotype], stage: str, fidelity: Fidelity, *, seed: int
) -> dict[Genotype, Trial]:
    """The trial of each genotype: that on record, or a new one."""
    recorded = study.trials(stage)
    scored = {trial.digest: trial for trial in recorded if trial.fidelity == fidelity and trial.seed == seed}
    numbers = count(study.store.next_number(study.record.id, stage))
    return {
        genotype: scored.get(genotype.digest)
        or Trial(
            number=next(numbers),
            genotype=genotype,
            stage=stage,
            fidelity=fidelity,
            seed=seed,
            started=time.time(),
        )
        for genotype in dict.fromkeys(genotypes)
    }


def _ended(trial: Trial, outcome: Outcome, costs: Mapping[str, Value]) -> Trial:
    return replace(
        trial,
        state=outcome.state,
        reason=outcome.reason,
        values={**costs, **outcome.values},
        worker=outcome.worker,
        finished=time.time(),
    )


def recorded_values(study: Study) -> dict[str, dict[str, Value]]:
    """What the search counted and predicted, by architecture."""
    return {
        trial.digest: {name: value for name, value in trial.values.items() if not value.samples}
        for trial in study.trials()
        if trial.values
    }
