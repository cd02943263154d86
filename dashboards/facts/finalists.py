"""Finalists: networks that were trained from scratch, rung by rung, beside what the proxy said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dashboards.facts.ties import QUALITY, tied
from nas.study.trial import Trial, TrialState, Value


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """One network: `proxy` from the search, `rungs` by training steps, `why` it went no further.

    `tied` says that it is the best of the last rung that it reached, or cannot be told from it.
    """

    digest: str
    strip: str
    proxy: Value | None
    rungs: Mapping[int, Value]
    why: str
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
class FinalFacts:
    """All finalists, those that came furthest first, the best first among them; and the rungs there are."""

    finalists: tuple[Finalist, ...]
    rungs: tuple[int, ...]


def final_facts(
    trials: Sequence[Trial],
    searched: Mapping[str, Trial],
    measured: Mapping[str, Mapping[str, Value]],
    one_lines: Mapping[str, str],
) -> FinalFacts | None:
    """The finalists among trials of the stage "final"; None where there are none.

    `searched` are the trials of the search by digest.
    """
    runs: dict[str, dict[int, Trial]] = {}
    for trial in trials:
        runs.setdefault(trial.digest, {})[trial.fidelity.steps] = trial
    if not runs:
        return None
    rungs = tuple(sorted({trial.fidelity.steps for trial in trials}))
    best = {steps: _best(steps, runs) for steps in rungs}

    def finalist(digest: str, by_rung: Mapping[int, Trial]) -> Finalist:
        proxy = searched.get(digest)
        scores = {
            steps: trial.values[QUALITY]
            for steps, trial in sorted(by_rung.items())
            if trial.state is TrialState.COMPLETE and QUALITY in trial.values
        }
        last = max(scores, default=None)
        leader = best[last] if last is not None else None
        return Finalist(
            digest=digest,
            strip=one_lines.get(digest, ""),
            proxy=proxy.values.get(QUALITY) if proxy else None,
            rungs=scores,
            why=_why(by_rung, rungs),
            finished=last == rungs[-1],
            best=last == rungs[-1] and leader == digest,
            tied=last is not None and leader is not None and _tied(scores[last], runs[leader][last]),
            values={**(proxy.values if proxy else {}), **by_rung[max(by_rung)].values},
            measured=measured.get(digest, {}),
        )

    found = [finalist(digest, by_rung) for digest, by_rung in runs.items()]
    return FinalFacts(tuple(sorted(found, key=_order)), rungs)


def _best(steps: int, runs: Mapping[str, Mapping[int, Trial]]) -> str | None:
    scores = {
        digest: by_rung[steps].values[QUALITY].value
        for digest, by_rung in runs.items()
        if steps in by_rung
        and by_rung[steps].state is TrialState.COMPLETE
        and QUALITY in by_rung[steps].values
    }
    return min(scores, key=scores.__getitem__, default=None)


def _tied(score: Value, leader: Trial) -> bool:
    return score.value == leader.values[QUALITY].value or tied(score, leader.values[QUALITY])


def _why(by_rung: Mapping[int, Trial], rungs: Sequence[int]) -> str:
    last = by_rung[max(by_rung)]
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
