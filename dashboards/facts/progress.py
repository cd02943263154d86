"""How far a study is: its state, its speed, the time that is left, and what fails."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dashboards.facts.growth import HypervolumeFacts, growth
from dashboards.facts.quantities import Quantity
from dashboards.facts.reading import Reading, Running
from foundation.errors import NasError
from foundation.text import one_line
from nas.store.folders import in_use
from nas.study.facts import OUTCOME
from nas.study.tally import all_failed_for, grouped
from nas.study.trial import Value

SILENT_SECONDS = 600
"""A study with running trials counts as interrupted after this time without a change."""

LATEST = 60
"""Trials at the end of a search whose speed is that of the search now."""


@dataclass(frozen=True, kw_only=True)
class ProgressFacts:
    """One study among all. `front` is None while it is being read, `best` is per objective.

    `rate` is in trials per second, over the latest ones, and `seconds_left` what the others take at it; both
    are None unless the study is running. `failures` are reasons with how often each occurred, `error` is what
    ended a study that failed, `working` are its trials in progress.
    """

    name: str
    created: float
    done: int
    planned: int
    state: str
    error: str = ""
    front: int | None = None
    scored: int = 0
    best: Mapping[Quantity, Value]
    rate: float | None = None
    seconds_left: float | None = None
    growth: HypervolumeFacts | None = None
    failures: tuple[tuple[str, int], ...] = ()
    working: tuple[Running, ...] = ()
    unreadable: int = 0


def progress_facts(reading: Reading, now: float | None = None) -> ProgressFacts:
    """Of a study as far as it is read."""
    now = time.time() if now is None else now
    state, error = state_of(reading, now) if reading.read else ("being read", "")
    rate = rate_of(reading) if state == "running" else None
    left = max(0, reading.study.plan.trials - reading.done)
    return ProgressFacts(
        name=reading.study.name,
        created=reading.study.record.created,
        done=reading.done,
        planned=reading.study.plan.trials,
        state=state,
        error=error,
        front=len(reading.members) if reading.read else None,
        scored=reading.distinct,
        best=best_values(reading),
        rate=rate,
        seconds_left=left / rate if rate else None,
        growth=growth_of(reading),
        failures=grouped(reading.failures().elements()),
        working=tuple(sorted(reading.running.values(), key=lambda each: each.worker))
        if state == "running"
        else (),
        unreadable=len(reading.unreadable),
    )


def growth_of(reading: Reading) -> HypervolumeFacts | None:
    """How the front of a study grew, as far as it is read."""
    return reading.kept("growth", lambda: growth(reading.scored, reading.objectives))


def state_of(reading: Reading, now: float | None = None) -> tuple[str, str]:
    """Whether the study is complete, failed, running, interrupted, stopped or not started, and its error.

    It runs while a process of this machine works on it; of one elsewhere only what it writes is known.
    """
    now = time.time() if now is None else now
    study = reading.study
    if in_use(study.folder):
        return "running", ""
    try:
        outcome = study.facts.get(OUTCOME)
    except NasError as error:
        return "failed", one_line(str(error))
    if outcome and outcome.get("error"):
        return "failed", one_line(str(outcome["error"]))
    if reading.running:
        return ("interrupted" if now - reading.last_change > SILENT_SECONDS else "running"), ""
    if reading.done >= study.plan.trials:
        failed = reading.done and not reading.distinct
        return (
            ("failed", all_failed_for(grouped(reading.failures().elements()))) if failed else ("complete", "")
        )
    if reading.done:
        return "stopped", ""
    return ("stopped", "it ended before its first trial") if outcome is not None else ("not started", "")


def rate_of(reading: Reading) -> float | None:
    """Trials per second over the latest ones; None where there are too few."""
    times = np.sort(reading.finished_times())[-LATEST:]
    span = float(times[-1] - times[0]) if len(times) > 2 else 0.0
    return (len(times) - 1) / span if span > 0 else None


def best_values(reading: Reading) -> dict[Quantity, Value]:
    """The best known value of each objective on the front."""
    members = reading.members
    measured = reading.measured if members else {}
    known = [{**trial.values, **measured.get(trial.digest, {})} for trial in members]
    best = {}
    for objective in reading.objectives if members else ():
        values = [numbers[objective.name] for numbers in known]
        best[objective] = (max if objective.maximise else min)(values, key=lambda value: value.value)
    return best
