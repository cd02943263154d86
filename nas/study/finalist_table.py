"""The finalists of a study as a table, with the scores of their own trainings."""

from __future__ import annotations

from dataclasses import replace

from foundation.text import count
from nas.study.front import Front
from nas.study.study import Study
from nas.study.trial import Trial


def finalist_table(study: Study) -> Front:
    """All finalists, those that were trained for longest first; empty where none was trained from scratch.

    Each has the number of its trial in the search, by which it can be exported.
    """
    searched = {trial.digest: trial for trial in (*study.trials(), *study.complete())}
    shown = [
        replace(searched.get(trial.digest, trial), values=trial.values, fidelity=trial.fidelity)
        for trial in study.finalists()
    ]

    def told(trial: Trial) -> str:
        return f"{count(trial.fidelity.steps, 'step')}: {study.layers(trial)}"

    numbers = {trial.digest: trial.values for trial in shown}
    return replace(study.front(), trials=tuple(shown), numbers=numbers, dropped=0, layers=told)


def finalist_lines(table: Front) -> list[str]:
    """What stands above the table, in words; nothing where it is empty."""
    if not table:
        return []
    trainings = "its longest training" if len(table) == 1 else "their longest trainings"
    return [f"{count(len(table), 'finalist')} trained from scratch, with the scores of {trainings}:"]
