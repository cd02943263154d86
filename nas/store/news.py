"""What became of trials, in few words: what a reader of many needs, without genotypes and samples.

A whole trial takes some kilobytes and a tenth of a millisecond; a page that follows half a million of them
needs their numbers only, and reads the few that it shows in full (`Store.trials_numbered`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import bindparam, select

from nas.store.schema import trials
from nas.study.trial import CANDIDATE, Trial, TrialState

NEWS_COLUMNS = tuple(
    trials.c[name]
    for name in (
        *("stage", "number", "revision", "state", "digest", "steps", "started", "finished", "worker"),
        *("reused", "reason", "values_json", "memo_json"),
    )
)
NEWS_TYPES: tuple[Any, ...] = (
    *(str, int, int, str, str, int, (float, int), (float, int, type(None)), str),
    *((int, type(None)), (str, type(None)), str, str),
)
"""What SQLite must have kept in `NEWS_COLUMNS`: it takes anything everywhere."""

NEWS = (
    select(*NEWS_COLUMNS)
    .where(trials.c.study_id == bindparam("of_study"), trials.c.revision > bindparam("known_revision"))
    .order_by(trials.c.revision)
    .limit(bindparam("at_most"))
)


class Number(NamedTuple):
    """A value without its evidence: NaN for no error."""

    value: float
    error: float
    source: str


class TrialNews(NamedTuple):
    """A trial as it was last saved; `scored` says that something was spent on a score of it.

    `candidate` is the number of the trial in which its candidate began, where it `goes_on` with that.
    """

    stage: str
    number: int
    state: TrialState
    digest: str
    steps: int
    started: float
    finished: float | None
    worker: str
    reused: int | None
    reason: str | None
    numbers: Mapping[str, Number]
    scored: bool
    candidate: int | None

    @property
    def counts(self) -> bool:
        """As `Trial.counts`."""
        if self.candidate is not None:
            return False
        return self.scored if self.state is TrialState.INFEASIBLE else self.state in COUNTED

    @classmethod
    def of(cls, trial: Trial) -> TrialNews:
        """The same of a whole trial."""
        numbers = {
            name: Number(value.value, math.nan if value.error is None else value.error, value.source)
            for name, value in trial.values.items()
        }
        return cls(
            trial.stage,
            trial.number,
            trial.state,
            trial.digest,
            trial.fidelity.steps,
            trial.started,
            trial.finished,
            trial.worker,
            trial.reused,
            trial.reason,
            numbers,
            any(value.samples for value in trial.values.values()),
            trial.candidate if trial.goes_on else None,
        )


COUNTED = (TrialState.COMPLETE, TrialState.FAILED)


def news_of(row: Any) -> TrialNews:
    """What a row of `NEWS_COLUMNS` says.

    Raises:
        ValueError: it is malformed.
    """
    if not all(map(isinstance, row, NEWS_TYPES)):
        raise ValueError("a column is of a wrong type")
    stage, number, _, state, digest, steps, started, finished, worker, reused, reason = row[:11]
    plain, memo = json.loads(row[11]), row[12]
    if not (math.isfinite(started) and math.isfinite(finished or 0.0)):
        raise ValueError("a time is not finite")
    return TrialNews(
        stage,
        number,
        TrialState(state),
        digest,
        steps,
        started,
        finished,
        worker,
        reused,
        reason,
        {name: _number(value) for name, value in plain.items()},
        any(value.get("samples") for value in plain.values()),
        _candidate(memo) if f'"{CANDIDATE}"' in memo else None,
    )


def news_name(row: Any) -> tuple[str, str]:
    """What a trial is called whose row cannot be read."""
    return f"{row[0]} trial", str(row[1])


def _number(plain: Any) -> Number:
    value, error, source = plain["value"], plain.get("error"), plain["source"]
    numbers = type(value) in (int, float) and (error is None or type(error) in (int, float))
    if not numbers or not isinstance(source, str) or not math.isfinite(value + (error or 0.0)):
        raise ValueError("a value is a finite number with its source")
    return Number(float(value), math.nan if error is None else float(error), source)


def _candidate(memo: str) -> int | None:
    began = json.loads(memo).get(CANDIDATE)
    return began if type(began) is int else None
