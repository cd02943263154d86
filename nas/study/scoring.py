"""Given architectures are scored as trials of a stage: finalists, or the random networks of a validation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from nas.executors.base import Executor, WorkItem
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
    on_trial: OnTrial = lambda trial: None,
) -> list[Trial]:
    """Score these architectures at one fidelity as trials of a stage; what is known is not repeated.

    Returns one trial per genotype, in their order. A trial that ran when the driver died is run again.
    """
    known = {(t.digest, t.fidelity): t for t in study.trials(stage)}
    cheap = cheap_values(study)
    next_number = max((t.number for t in known.values()), default=-1) + 1
    running: dict[int, Trial] = {}
    for genotype in dict.fromkeys(genotypes):
        trial = known.get((genotype.digest, fidelity))
        if trial is not None and trial.state is not TrialState.RUNNING:
            on_trial(trial)
            continue
        if trial is None:
            trial = Trial(
                number=next_number,
                genotype=genotype,
                stage=stage,
                fidelity=fidelity,
                seed=study.plan.seed,
                started=time.time(),
            )
            next_number += 1
        running[trial.number] = known[(genotype.digest, fidelity)] = trial
    study.store.save(study.record.id, running.values())
    executor.submit([WorkItem(t.number, study.spec(t), fidelity.steps, t.seed) for t in running.values()])
    while running:
        for outcome in executor.collect():
            trial = running.pop(outcome.number)
            state = TrialState.FAILED if outcome.reason else TrialState.COMPLETE
            trial = replace(
                trial,
                state=state,
                reason=outcome.reason,
                values={**cheap.get(trial.digest, {}), **outcome.values},
                worker=outcome.worker,
                finished=time.time(),
            )
            known[(trial.digest, fidelity)] = trial
            study.store.save(study.record.id, [trial])
            on_trial(trial)
    return [known[(genotype.digest, fidelity)] for genotype in genotypes]


def cheap_values(study: Study) -> dict[str, dict[str, Value]]:
    """What the search counted and predicted, by architecture."""
    return {
        trial.digest: {name: value for name, value in trial.values.items() if not value.samples}
        for trial in study.trials()
        if trial.values
    }
