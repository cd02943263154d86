"""A study in memory that follows the store: a poll reads only the trials that changed."""

from __future__ import annotations

import gc
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from dashboards.facts import FrontFacts, front_facts
from dashboards.facts.networks import one_line_of, quantity
from dashboards.facts.quantities import Quantity
from nas.pareto import nondominated
from nas.store import Store, StudyRecord
from nas.store.unreadable import Unreadable
from nas.study.study import Study, of_most_steps
from nas.study.trial import Trial, TrialState, Value

SILENT_SECONDS = 600
"""A study with running trials counts as interrupted after this time without a change."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One study in the list of studies; `best` is per objective. `front` is None while it is being read."""

    name: str
    created: float
    done: int
    planned: int
    state: str
    front: int | None
    best: Mapping[Quantity, Value]


class LiveStudy:
    """One study, read once and then updated. Threads may share it."""

    def __init__(self, store: Store, record: StudyRecord) -> None:
        self.study = Study(store, record)
        self.objectives: tuple[Quantity, ...] = tuple(
            quantity(name, self.study) for name in self.study.plan.objectives
        )
        self.revision = 0
        self.read = False
        self.unreadable: dict[str, Unreadable] = {}
        self.finalists: dict[str, dict[int, Value]] = {}
        self._lock = threading.RLock()
        self._scored: dict[int, Trial] = {}
        self._states: dict[int, TrialState] = {}
        self._counted: set[int] = set()
        self._further: dict[int, TrialState] = {}
        self._latest: dict[int, int] = {}
        self._members: tuple[Trial, ...] = ()
        self._one_lines: dict[int, str] = {}
        self._last_change = 0.0

    def refresh(self) -> int:
        """Read the trials that changed since the last call; returns the revision read."""
        with self._lock, _garbage_collection_paused():
            changed, self.revision = self.study.store.trials_changed_since(
                self.study.record, self.revision, on_unreadable=self._note
            )
            if changed:
                self._take(changed)
            self.read = True
            return self.revision

    def _note(self, unreadable: Unreadable) -> None:
        self.unreadable[f"{unreadable.what} {unreadable.name}"] = unreadable

    def _take(self, changed: Sequence[Trial]) -> None:
        newest = max(trial.finished or trial.started for trial in changed)
        self._last_change = max(self._last_change, newest)
        for trial in changed:
            if trial.stage == "final":
                self._take_finalist(trial)
            elif trial.stage == "search":
                if trial.state is TrialState.COMPLETE and not self._has_objectives(trial):
                    self._note(Unreadable("search trial", str(trial.number), "it lacks an objective"))
                    continue
                (self._further if trial.goes_on else self._states)[trial.number] = trial.state
                (self._counted.add if trial.counts else self._counted.discard)(trial.number)
                if trial.state is TrialState.COMPLETE and trial.reused is None:
                    self._scored.pop(self._latest.get(trial.candidate, -1), None)  # after fewer steps
                    self._scored[trial.number] = trial
                    self._latest[trial.candidate] = trial.number
        former = self._members
        self._members = self._front()
        members = {trial.number for trial in self._members}
        # a dominated trial stays dominated, and its samples are most of its memory
        for trial in (*changed, *former):
            if trial.number in self._scored and trial.number not in members:
                self._scored[trial.number] = _without_samples(self._scored[trial.number])

    def _has_objectives(self, trial: Trial) -> bool:
        return all(objective.name in trial.values for objective in self.objectives)

    def _take_finalist(self, trial: Trial) -> None:
        rungs = self.finalists.setdefault(trial.digest, {})
        name = self.study.quality.name if self.study.quality else ""
        if trial.state is TrialState.COMPLETE and name in trial.values:
            rungs[trial.fidelity.steps] = trial.values[name]

    def _front(self) -> tuple[Trial, ...]:
        scored = of_most_steps(list(self._scored.values()))
        points = self.study.points(scored)
        front = [(p, t) for p, t, keep in zip(points, scored, nondominated(points), strict=True) if keep]
        return tuple(trial for _, trial in sorted(front, key=lambda pair: pair[0]))

    @property
    def members(self) -> tuple[Trial, ...]:
        """The front in all objectives."""
        with self._lock:
            return self._members

    @property
    def scored(self) -> int:
        """The number of distinct architectures that are scored."""
        with self._lock:
            return len(self._scored)

    def quantities(self) -> list[Quantity]:
        """The quantities of the axes: the objectives, then all other values of the trials."""
        with self._lock:
            last = next(reversed(self._scored.values()), None)
        names = dict.fromkeys([objective.name for objective in self.objectives])
        return [
            quantity(name, self.study)
            for name in [*names, *sorted(set(last.values if last else ()) - set(names))]
        ]

    def front(self, x: str, y: str) -> FrontFacts:
        """The plane of two quantities."""
        with self._lock:
            scored, members = of_most_steps(list(self._scored.values())), self._members
        more = {objective.name for objective in self.objectives} - {x, y}
        return front_facts(
            scored,
            quantity(x, self.study),
            quantity(y, self.study),
            describe=self.one_line,
            measured=self.study.measured(),
            members={trial.number for trial in members} if more else (),
            finalists=set(self.finalists),
            objectives=self.objectives,
        )

    def one_line(self, trial: Trial) -> str:
        """The architecture of a trial in one line, cached."""
        if trial.number not in self._one_lines:
            self._one_lines[trial.number] = one_line_of(self.study, trial)
        return self._one_lines[trial.number]

    def trial(self, number: int) -> Trial | None:
        """A scored trial by its number."""
        with self._lock:
            return self._scored.get(number)

    def counts(self) -> dict[str, int]:
        """The number of trials by state."""
        with self._lock:
            return dict(Counter(state.value for state in self._states.values()))

    @property
    def done(self) -> int:
        """The number of trials that count towards the plan."""
        with self._lock:
            return len(self._counted)

    def state(self, now: float | None = None) -> str:
        """Whether the search is complete, failed, running, interrupted, stopped or not started."""
        if TrialState.RUNNING in (*self._states.values(), *self._further.values()):
            silent = (now or time.time()) - self._last_change > SILENT_SECONDS
            return "interrupted" if silent else "running"
        if self.done >= self.study.plan.trials:
            return "failed" if self.done and not self.scored else "complete"
        return "stopped" if self.done else "not started"

    def summary(self) -> Summary:
        """This study in the list of studies."""
        return Summary(
            name=self.study.name,
            created=self.study.record.created,
            done=self.done,
            planned=self.study.plan.trials,
            state=self.state() if self.read else "being read",
            front=len(self.members) if self.read else None,
            best=self._best(),
        )

    def _best(self) -> dict[Quantity, Value]:
        best, members = {}, self.members
        measured = self.study.measured() if members else {}
        known = [{**trial.values, **measured.get(trial.digest, {})} for trial in members]
        for objective in self.objectives if members else ():
            values = [numbers[objective.name] for numbers in known]
            best[objective] = (max if objective.maximise else min)(values, key=lambda value: value.value)
        return best


@contextmanager
def _garbage_collection_paused() -> Iterator[None]:
    """Reading makes many objects and no garbage; each run of the collector would walk all of them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _without_samples(trial: Trial) -> Trial:
    values = {n: Value(v.value, v.error, v.source) if v.samples else v for n, v in trial.values.items()}
    return replace(trial, values=values)
