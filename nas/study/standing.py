"""Where a network stands that somebody takes out of a study: on the front or not, and what it breaks."""

from __future__ import annotations

from foundation.text import listed
from nas.progress import Progress
from nas.study.constraints import Constraint
from nas.study.front import number_with_error
from nas.study.modified import STAGE as MODIFIED
from nas.study.modified import front_after
from nas.study.plan import SCENARIO_MARK
from nas.study.study import BEST, Study
from nas.study.trial import Trial, TrialState, Value

BESIDE = ("baseline", "scaled")
"""Stages whose networks are held against a front, or grown from it, and never are on it."""


def standing(study: Study, trial: Trial) -> str:
    """What is to be told of a network before it is used, in one line; empty for one of the front.

    It says which constraints of the search it breaks by its best known numbers, and by how much, and that it
    is not on the front.
    """
    if trial.stage in BESIDE:
        return ""
    told = [f"breaks {listed(broken)}"] if (broken := _broken(study, trial)) else []
    if trial.state in (TrialState.INFEASIBLE, TrialState.ILLEGAL) and not broken and trial.reason:
        told = [f"was rejected ({trial.reason})"]
    front = front_after(study) if trial.stage == MODIFIED else study.front()
    if front and trial.digest not in {member.digest for member in front}:
        told.append("is not on the front")
    if not told:
        return ""
    instead = (
        f": {BEST!r} in its place names the best of the front" if front and trial.stage != MODIFIED else ""
    )
    name = f"trial {trial.number} ({trial.digest})" if trial.stage == "search" else trial.digest
    return f"{name} {' and '.join(told)}{instead}"


def tell_standing(study: Study, trial: Trial, progress: Progress) -> None:
    """Say it where there is something to be told."""
    if text := standing(study, trial):
        progress.say(f"note: {text}")


def _broken(study: Study, trial: Trial) -> list[str]:
    """The constraints that it breaks, each with its number and by how much."""
    numbers: dict[str, Value] = {}
    searched = study.store.trials(study.record.id, digest=trial.digest, on_unreadable=lambda unreadable: None)
    for each in searched:
        numbers.update(each.values)
    numbers.update(study.numbers(trial))
    broken = []
    for bound in map(Constraint.read, study.plan.constraints):
        for name, value in numbers.items():
            if bound.name in (name, name.partition(SCENARIO_MARK)[0]) and bound.excess(value.value):
                broken.append(f"{bound} ({number_with_error(name, value)}, {bound.missed_by(value.value)})")
    return broken
