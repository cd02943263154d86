"""Studies as they grow: what the dashboard keeps in memory, so that a poll reads only what changed."""

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
from dashboards.facts.ties import QUALITY
from nas.pareto import nondominated
from nas.store import Store, StudyRecord
from nas.study.study import Study
from nas.study.trial import Trial, TrialState, Value

PATIENCE = 0.5
"""Seconds that the list of studies waits for those that were never read; the rest follows later."""

LARGE = 5000
"""A study of more trials than this is read in the background."""

SILENT_SECONDS = 600
"""After so long without a word, a study that has running trials is called interrupted."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One study in the list of studies; `best` is per objective. `front` is None while it is being read."""

    name: str
    created: float
    done: int
    planned: int
    state: str
    front: int | None
    best: Mapping[str, Value]


class LiveStudy:
    """One study, read once and then followed. Threads may share it."""

    def __init__(self, store: Store, record: StudyRecord) -> None:
        self.study = Study(store, record)
        self.objectives: tuple[Quantity, ...] = tuple(map(quantity, self.study.plan.objectives))
        self.revision = 0
        self.read = False
        self.finalists: dict[str, dict[int, Value]] = {}
        self._lock = threading.RLock()
        self._scored: dict[int, Trial] = {}
        self._states: dict[int, TrialState] = {}
        self._members: tuple[Trial, ...] = ()
        self._strips: dict[int, str] = {}
        self._heard = 0.0

    def refresh(self) -> int:
        """Read what changed since the last time; the revision that is now known."""
        with self._lock, _uncollected():
            changed, revision = self.study.store.trials_changed_since(self.study.record, self.revision)
            if changed:
                self._take(changed)
                self.revision = revision
            self.read = True
            return self.revision

    def _take(self, changed: Sequence[Trial]) -> None:
        newest = max(trial.finished or trial.started for trial in changed)
        self._heard = max(self._heard, newest)
        for trial in changed:
            if trial.stage == "final":
                rungs = self.finalists.setdefault(trial.digest, {})
                if trial.state is TrialState.COMPLETE and QUALITY in trial.values:
                    rungs[trial.fidelity.steps] = trial.values[QUALITY]
            elif trial.stage == "search":
                self._states[trial.number] = trial.state
                if trial.state is TrialState.COMPLETE and trial.reused is None:
                    self._scored[trial.number] = trial
        scored = list(self._scored.values())
        kept = nondominated(self.study.points(scored))
        front = [trial for trial, keep in zip(scored, kept, strict=True) if keep]
        former = self._members
        self._members = tuple(sorted(front, key=lambda trial: self.study.points([trial])[0]))
        members = {trial.number for trial in front}
        # what is beaten stays beaten, and its samples are most of its weight
        for trial in (*changed, *former):
            if trial.number in self._scored and trial.number not in members:
                self._scored[trial.number] = _light(self._scored[trial.number])

    @property
    def members(self) -> tuple[Trial, ...]:
        """The front in all objectives."""
        with self._lock:
            return self._members

    @property
    def scored(self) -> int:
        """How many distinct architectures are scored."""
        with self._lock:
            return len(self._scored)

    def quantities(self) -> list[Quantity]:
        """What an axis can show: the objectives, then everything else that is known of the trials."""
        with self._lock:
            last = next(reversed(self._scored.values()), None)
        names = dict.fromkeys([what.name for what in self.objectives])
        return [quantity(name) for name in [*names, *sorted(set(last.values if last else ()) - set(names))]]

    def front(self, x: str, y: str) -> FrontFacts:
        """The plane of two quantities."""
        with self._lock:
            scored, members = list(self._scored.values()), self._members
        more = {what.name for what in self.objectives} - {x, y}
        return front_facts(
            scored,
            quantity(x),
            quantity(y),
            describe=self.strip,
            members={trial.number for trial in members} if more else (),
            finalists=set(self.finalists),
            objectives=[what.name for what in self.objectives],
        )

    def strip(self, trial: Trial) -> str:
        """The layers of a trial in one line, remembered."""
        if trial.number not in self._strips:
            self._strips[trial.number] = one_line_of(self.study, trial)
        return self._strips[trial.number]

    def trial(self, number: int) -> Trial | None:
        """A scored trial by its number."""
        with self._lock:
            return self._scored.get(number)

    def counts(self) -> dict[str, int]:
        """How many trials stand how."""
        with self._lock:
            return dict(Counter(state.value for state in self._states.values()))

    @property
    def done(self) -> int:
        """How many trials count towards the plan."""
        counts = self.counts()
        return counts.get("complete", 0) + counts.get("failed", 0)

    def state(self, now: float | None = None) -> str:
        """Whether the search is done, running, or was stopped, as far as the store tells."""
        if self.counts().get("running"):
            silent = (now or time.time()) - self._heard > SILENT_SECONDS
            return "interrupted" if silent else "running"
        if self.done >= self.study.plan.trials:
            return "complete"
        return "stopped" if self.done else "not begun"

    def summary(self) -> Summary:
        """This study in the list of studies."""
        if not self.read:
            return Summary(
                name=self.study.name,
                created=self.study.record.created,
                done=0,
                planned=self.study.plan.trials,
                state="being read",
                front=None,
                best={},
            )
        members = self.members
        best = {}
        for what in self.objectives:
            values = [trial.values[what.name] for trial in members]
            if values:
                best[what.name] = (max if what.maximise else min)(values, key=lambda value: value.value)
        return Summary(
            name=self.study.name,
            created=self.study.record.created,
            done=self.done,
            planned=self.study.plan.trials,
            state=self.state(),
            front=len(members),
            best=best,
        )


class LiveStore:
    """All studies of a store, each followed from the moment that someone looks."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._live: dict[int, LiveStudy] = {}
        self._reader: threading.Thread | None = None

    def all(self) -> list[LiveStudy]:
        """Every study, newest first; what takes long to read comes later, in the background."""
        found = [self._followed(record) for record in self.store.studies()]
        began = time.monotonic()
        for live in found:
            new = not live.read
            if new and (time.monotonic() - began > PATIENCE or self._is_large(live)):
                continue
            live.refresh()
        self._read_later([live for live in found if not live.read])
        return found

    def study(self, name: str) -> LiveStudy:
        """The study of a name, read to its last trial.

        Raises:
            UnknownName: there is none.
        """
        live = self._followed(self.store.study(name))
        live.refresh()
        return live

    def _is_large(self, live: LiveStudy) -> bool:
        return sum(self.store.counts(live.study.record).values()) > LARGE

    def _read_later(self, waiting: Sequence[LiveStudy]) -> None:
        def read() -> None:
            for live in waiting:
                live.refresh()

        if waiting and (self._reader is None or not self._reader.is_alive()):
            self._reader = threading.Thread(target=read, name="reads studies", daemon=True)
            self._reader.start()

    def known(self, study_id: int) -> LiveStudy | None:
        """A study that is followed already; asks no database."""
        return self._live.get(study_id)

    def _followed(self, record: StudyRecord) -> LiveStudy:
        with self._lock:
            if record.id not in self._live:
                self._live[record.id] = LiveStudy(self.store, record)
            return self._live[record.id]


@contextmanager
def _uncollected() -> Iterator[None]:
    """Reading makes many objects and no garbage, yet the collector would walk them again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _light(trial: Trial) -> Trial:
    values = {n: Value(v.value, v.error, v.source) if v.samples else v for n, v in trial.values.items()}
    return replace(trial, values=values)
