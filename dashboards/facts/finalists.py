"""Finalists: networks that were trained from scratch, rung by rung, beside their scores in the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas.study.significance import tied
from nas.study.trial import Trial, TrialState, Value


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """One network: `proxy` is its score in the search, `rungs` its scores by training steps.

    `tied` means that it was trained to the end, and that its score is that of the best, within the error.
    """

    digest: str
    one_line: str
    proxy: Value | None
    rungs: Mapping[int, Value]
    outcome: str
    finished: bool = False
    best: bool = False
    tied: bool = False
    values: Mapping[str, Value]
    measured: Mapping[str, Value]

    @property
    def last(self) -> tuple[int, Value] | None:
        """The last rung that it completed, and its score there."""
        steps = max(self.rungs, default=None)
        return None if steps is None else (steps, self.rungs[steps])


@dataclass(frozen=True)
class FinalistFacts:
    """All finalists, sorted by the last rung that they reached and by their score there; and all rungs."""

    finalists: tuple[Finalist, ...]
    rungs: tuple[int, ...]

    @property
    def common_rung(self) -> int | None:
        """The last rung that all completed which completed any; None where none did."""
        completed = [set(finalist.rungs) for finalist in self.finalists if finalist.rungs]
        return max(set.intersection(*completed), default=None) if completed else None


def finalist_facts(
    trials: Sequence[Trial],
    searched: Mapping[str, Trial],
    measured: Mapping[str, Mapping[str, Value]],
    one_lines: Mapping[str, str],
    quality: str | None,
) -> FinalistFacts | None:
    """The finalists among trials of the stage "final"; None where there are none.

    `searched` are the trials of the search by digest, `quality` names the score, if there is one.
    """
    runs: dict[str, dict[int, Trial]] = {}
    for trial in trials:
        runs.setdefault(trial.digest, {})[trial.fidelity.steps] = trial
    if not runs or quality is None:
        return None
    rungs = tuple(sorted({trial.fidelity.steps for trial in trials}))
    leaders = {steps: _best(steps, runs, quality) for steps in rungs}
    finalists = [
        _finalist(
            _Run(digest, by_rung, rungs, leaders, quality),
            searched.get(digest),
            measured=measured.get(digest, {}),
            one_line=one_lines.get(digest, ""),
        )
        for digest, by_rung in runs.items()
    ]
    return FinalistFacts(tuple(sorted(finalists, key=_order)), rungs)


@dataclass(frozen=True)
class _Run:
    """One finalist's trials by training steps; `leaders` are the best trials of each rung."""

    digest: str
    by_rung: Mapping[int, Trial]
    rungs: tuple[int, ...]
    leaders: Mapping[int, Trial | None]
    quality: str

    def scores(self) -> dict[int, Value]:
        scored = ((steps, t) for steps, t in sorted(self.by_rung.items()) if _is_scored(t, self.quality))
        return {steps: trial.values[self.quality] for steps, trial in scored}

    def last_trial(self) -> Trial:
        return self.by_rung[max(self.by_rung)]


def _finalist(run: _Run, searched: Trial | None, *, measured: Mapping[str, Value], one_line: str) -> Finalist:
    scores, proxy_values = run.scores(), searched.values if searched else {}
    last = max(scores, default=None)
    leader = run.leaders[last] if last is not None else None
    finished = last == run.rungs[-1]
    return Finalist(
        digest=run.digest,
        one_line=one_line,
        proxy=proxy_values.get(run.quality),
        rungs=scores,
        outcome=_outcome(run.last_trial(), run.rungs),
        finished=finished,
        best=finished and leader is not None and leader.digest == run.digest,
        tied=finished and leader is not None and _tied(scores[run.rungs[-1]], leader.values[run.quality]),
        values={**proxy_values, **run.last_trial().values},
        measured=measured,
    )


def _is_scored(trial: Trial, quality: str) -> bool:
    return trial.state is TrialState.COMPLETE and quality in trial.values


def _best(steps: int, runs: Mapping[str, Mapping[int, Trial]], quality: str) -> Trial | None:
    trials = [by_rung[steps] for by_rung in runs.values() if steps in by_rung]
    scored = [trial for trial in trials if _is_scored(trial, quality)]
    return min(scored, key=lambda trial: trial.values[quality].value, default=None)


def _tied(score: Value, best: Value) -> bool:
    return score.value == best.value or tied(score, best)


def _outcome(last: Trial, rungs: Sequence[int]) -> str:
    if last.state is TrialState.FAILED:
        return f"failed: {last.reason or 'no reason on record'}"
    if last.state is TrialState.RUNNING:
        return f"running to {last.fidelity.steps:,} steps"
    if last.fidelity.steps == rungs[-1]:
        return "trained to the end"
    return f"not kept after {last.fidelity.steps:,} steps"


def _order(finalist: Finalist) -> tuple[float, float]:
    last = finalist.last
    return (-last[0], last[1].value) if last else (0.0, 0.0)
