"""What became of a study's proposals: how many were scored, which failed and why, what cannot be read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from foundation.errors import EvaluationFailed
from foundation.text import count, one_line
from nas.store import Unreadable
from nas.study.constraints import gates_of
from nas.study.study import Study
from nas.study.trial import Trial, TrialState

MOST_REASONS = 5
"""Reasons that are told apart in a line; the others are counted together."""

LONGEST_REASON = 160

REJECTED = (TrialState.INFEASIBLE, TrialState.ILLEGAL)

NUMBER = re.compile(r"\d[\d.,]*")


@dataclass(frozen=True, kw_only=True)
class Tally:
    """The proposals of a search, each of which has a trial number.

    `scored` of them count towards the plan's trials: the `failed` ones too, and the `repeated` ones, which
    got the values of an earlier trial; `gated` ones did not pass a gate, so were not trained any further.
    `rejected` ones broke a constraint or were no architecture.
    `failures` are reasons with how often they occurred, most frequent first; `further` those of candidates
    that a scheduler trained further, `finals` those of finalists. `warning` is what the engine found amiss.
    """

    planned: int
    proposed: int
    distinct: int
    scored: int
    repeated: int
    failed: int
    rejected: int
    gated: int = 0
    failures: tuple[tuple[str, int], ...] = ()
    further: tuple[tuple[str, int], ...] = ()
    finals: tuple[tuple[str, int], ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    warning: str = ""

    @property
    def lines(self) -> list[str]:
        """What a reader of the front must know besides it; empty where all went as planned."""
        return [*self._proposals, *self.problems]

    @property
    def _proposals(self) -> list[str]:
        if self.rejected or self.repeated:
            repeats = f", {self.repeated:,} of which repeated an architecture" if self.repeated else ""
            counts = "does not count" if self.rejected == 1 else "do not count"
            rejects = f"; {self.rejected:,} broke a constraint and {counts}" if self.rejected else ""
            proposals = count(self.proposed, "proposal")
            return [
                f"{proposals}, each with a trial number: {self.scored:,} of {self.planned:,} candidates"
                f" scored{repeats}{rejects}"
            ]
        return []

    @property
    def problems(self) -> list[str]:
        """What the engine warned of, which candidates failed, why, and what cannot be read."""
        lines = [self.warning] if self.warning else []
        if self.gated:
            lines.append(f"{self.gated:,} of {count(self.scored, 'candidate')} did not pass a gate")
        if self.failed:
            lines.append(
                f"{self.failed:,} of {count(self.scored, 'candidate')} failed: {listed(self.failures)}"
            )
        if self.further:
            lines.append(f"of the candidates that were trained further failed: {listed(self.further)}")
        if self.finals:
            lines.append(f"of the finalists' trainings failed: {listed(self.finals)}")
        lines += map(str, self.unreadable[:MOST_REASONS])
        if len(self.unreadable) > MOST_REASONS:
            lines.append(f"{len(self.unreadable) - MOST_REASONS:,} more trials cannot be read")
        return lines


def tally_of(study: Study) -> Tally:
    """What became of the proposals of a study so far."""
    everything, unreadable = study.readings()
    trials = [trial for trial in everything if not trial.goes_on]
    counts = Counter(trial.state for trial in trials)
    return Tally(
        planned=study.plan.trials,
        proposed=len(trials) + len(unreadable),
        distinct=len(study.complete()),
        scored=sum(trial.counts for trial in trials),
        repeated=sum(trial.reused is not None and trial.state is TrialState.COMPLETE for trial in trials),
        failed=counts[TrialState.FAILED],
        rejected=sum(trial.state in REJECTED and not trial.counts for trial in trials),
        gated=sum(trial.state is TrialState.INFEASIBLE and trial.counts for trial in trials),
        failures=failures_of(trials),
        further=failures_of([trial for trial in everything if trial.goes_on]),
        finals=failures_of(study.trials("final")),
        unreadable=tuple(unreadable),
        warning=engine_warning(study),
    )


def engine_warning(study: Study) -> str:
    """The warning that the study's engine recorded, in one line; empty where there is none."""
    fact = study.facts.get(study.plan.engine)
    warning = fact.get("warning") if isinstance(fact, Mapping) else None
    return one_line(warning) if isinstance(warning, str) else ""


def failures_of(trials: Sequence[Trial]) -> tuple[tuple[str, int], ...]:
    """Why trials failed, most frequent first; reasons that differ in numbers only are one."""
    return grouped(t.reason or "no reason is on record" for t in trials if t.state is TrialState.FAILED)


def grouped(reasons: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """Reasons with how often each occurs, most frequent first; those that differ in numbers only are one."""
    first: dict[str, str] = {}
    counted: Counter[str] = Counter()
    for reason in map(one_line, reasons):
        key = NUMBER.sub("#", reason)
        first.setdefault(key, reason)
        counted[key] += 1
    return tuple((_cut(first[key]), times) for key, times in counted.most_common())


def all_failed(trials: Sequence[Trial]) -> str:
    """That every candidate failed, with the reasons: `all 12 candidates failed: 12 x out of memory`."""
    return all_failed_for(failures_of(trials))


def all_failed_for(failures: Sequence[tuple[str, int]]) -> str:
    """The same for reasons with how often each occurred."""
    return f"all {count(sum(times for _, times in failures), 'candidate')} failed: {listed(failures)}"


def listed(failures: Sequence[tuple[str, int]]) -> str:
    """Reasons in a line: `12 x out of memory; 1 x a worker was lost`."""
    parts = [f"{times:,} \N{MULTIPLICATION SIGN} {reason}" for reason, times in failures[:MOST_REASONS]]
    if others := sum(times for _, times in failures[MOST_REASONS:]):
        parts.append(f"{others:,} for other reasons")
    return "; ".join(parts)


def require_scored(study: Study) -> None:
    """Raise `EvaluationFailed` where nothing came of a study so far, with the reasons."""
    tally = tally_of(study)
    if tally.distinct:
        return
    if tally.failed:
        raise EvaluationFailed(
            f"study {study.name}: no architecture could be scored, {all_failed(study.trials())}"
        )
    if tally.gated:
        raise EvaluationFailed(
            f"study {study.name}: none of {count(tally.gated, 'candidate')} passed the gate"
            f" {' or '.join(map(str, gates_of(study.plan)))}"
        )
    damage = f"; {tally.unreadable[0]}" if tally.unreadable else ""
    raise EvaluationFailed(f"study {study.name} has no scored trial: `nas resume {study.name}`{damage}")


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}…"
