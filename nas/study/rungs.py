"""How far the rungs of a search can be trusted: do they put candidates in the same order as the next rung?

A scheduler stops candidates by their score after few steps. Kendall's tau of that score and of the one at the
next rung, over the candidates that reached both, says how well this goes. These are the promoted ones, so the
best of a rung: among all candidates the two rungs agree more than among these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from foundation.statistics import Tau, tau_with_interval
from foundation.text import count
from nas.study.facts import add_fact
from nas.study.plan_objectives import quality_of
from nas.study.study import Study
from nas.study.trial import Trial, TrialState

RUNGS = "rungs"
"""The fact about them."""

FEW = 6
"""Candidates below which a rank correlation is not told."""


@dataclass(frozen=True)
class RungReport:
    """One rung: its training steps, the candidates that were scored there or failed, those that reached both
    this rung and the next, and the rank correlation of their scores (None where these are too few)."""

    steps: int
    scored: int
    failed: int
    promoted: int = 0
    agreement: Tau | None = None

    def __str__(self) -> str:
        failed = f" ({self.failed:,} failed)" if self.failed else ""
        return f"{count(self.scored + self.failed, 'candidate')} after {self.steps:,} steps{failed}"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        tau = self.agreement
        told = {} if tau is None else {"tau": tau.value, "interval": [tau.low, tau.high]}
        counts = {"scored": self.scored, "failed": self.failed, "promoted": self.promoted}
        return {"steps": self.steps, **counts, **told}


def rungs_of(study: Study) -> list[RungReport]:
    """The rungs of a study's search; empty where every candidate was trained for the same number of steps."""
    quality, at = quality_of(study.plan), _by_rung(study)
    if quality is None or study.plan.scheduler == "full" or not at:
        return []
    reports = []
    for steps, above in zip(at, [*list(at)[1:], 0], strict=True):
        ended = list(at[steps].values())
        scored = {t.candidate: t for t in ended if t.state is TrialState.COMPLETE}
        both = [number for number in scored if _is_complete(at.get(above, {}).get(number))]
        pairs = [(scored[n].values[quality].value, at[above][n].values[quality].value) for n in both]
        tau = tau_with_interval(*zip(*pairs, strict=True)) if len(pairs) >= FEW else None
        known = tau if tau is not None and tau.value == tau.value else None
        reports.append(RungReport(steps, len(scored), len(ended) - len(scored), len(both), known))
    return reports


def note_rungs(study: Study) -> None:
    """Put them on the study's record."""
    if reports := rungs_of(study):
        add_fact(study, RUNGS, {str(each.steps): each.to_json() for each in reports})


def rung_lines(reports: list[RungReport]) -> list[str]:
    """The rungs in words; empty where there are none."""
    if not reports:
        return []
    lines = [f"trained in rungs: {', '.join(map(str, reports))}"]
    for below, above in pairwise(reports):
        between = f"order after {below.steps:,} and {above.steps:,} steps"
        if below.agreement is not None:
            tau = f"Kendall's tau {below.agreement}"
            lines.append(f"{between}: {tau} of the {below.promoted:,} that reached both")
        elif below.promoted:
            lines.append(f"{between}: {below.promoted:,} reached both, too few to compare")
    return lines


def _by_rung(study: Study) -> Mapping[int, Mapping[int, Trial]]:
    """The ended trials at each rung, by the number of their candidate; the rungs increase."""
    at: dict[int, dict[int, Trial]] = {}
    for trial in study.trials():
        if trial.state in (TrialState.COMPLETE, TrialState.FAILED) and trial.reused is None:
            at.setdefault(trial.fidelity.steps, {})[trial.candidate] = trial
    return dict(sorted(at.items()))


def _is_complete(trial: Trial | None) -> bool:
    return trial is not None and trial.state is TrialState.COMPLETE
