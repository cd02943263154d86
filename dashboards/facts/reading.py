"""A study in memory that follows its store: read once for a report, again and again for a page.

    reading = Reading(study)
    reading.refresh()
    reading.scored          # numbers of all scored networks, as columns
    reading.members         # the trials on the front, whole, as `nas front` has them

A refresh reads only what was saved since the one before. Numbers are kept of all trials, whole trials of the
front only; others are read from the store when they are asked for. What is made of all of them is kept until
something new is read (`kept`).
"""

from __future__ import annotations

import gc
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from dashboards.facts.networks import one_line_of, quantity
from dashboards.facts.quantities import Quantity
from dashboards.facts.scored import Mask, Numbers, Scored
from dashboards.facts.trial_columns import TrialColumns
from nas.pareto import nondominated_mask
from nas.store.news import TrialNews
from nas.store.unreadable import Unreadable
from nas.study.study import Study
from nas.study.trial import Trial, TrialState, Value

AT_ONCE = 5000
"""Trials that are read in one piece; between two, others may ask for what is known so far."""

KEPT = 2000
"""Whole trials that are kept besides those of the front."""

T = TypeVar("T")


@dataclass(frozen=True)
class Running:
    """A trial in progress: who works on it, since when, and towards how many training steps."""

    stage: str
    number: int
    worker: str
    started: float
    steps: int


@dataclass(frozen=True)
class Known:
    """Networks as they were `scored` and what was `measured`, by digest and name; both together `corrected`.

    `numbers` are those of the scored trials of which something was measured, by digest.
    """

    scored: Scored
    measured: Mapping[str, Mapping[str, Value]]
    corrected: Scored
    numbers: Mapping[str, int]

    @classmethod
    def of(cls, scored: Scored, measured: Mapping[str, Mapping[str, Value]]) -> Known:
        """From these two."""
        return cls(scored, measured, scored.corrected(measured, scored.columns), scored.numbered(measured))

    def where(self, mask: Mask) -> Known:
        """Some of these networks; `numbers` stay those of all."""
        return replace(self, scored=self.scored.where(mask), corrected=self.corrected.where(mask))


class Reading:
    """One study as columns. Threads may share it.

    `finalists` are scores from scratch by digest and training steps, `measured` what was measured by digest
    and name, `unreadable` records by name.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.objectives: tuple[Quantity, ...] = tuple(quantity(n, study) for n in study.plan.objectives)
        self.revision = 0
        self.read = False
        self.last_change = 0.0
        self.unreadable: dict[str, Unreadable] = {}
        self.finalists: dict[str, dict[int, Value]] = {}
        self.measured: Mapping[str, Mapping[str, Value]] = {}
        self.last_measurement = 0
        self.running: dict[tuple[str, int], Running] = {}
        self._columns = TrialColumns([objective.name for objective in self.objectives])
        self._lock = threading.RLock()
        self._scored: Scored | None = None
        self._members: tuple[Trial, ...] = ()
        self._whole: OrderedDict[int, Trial] = OrderedDict()
        self._one_lines: dict[str, str] = {}
        self._made: dict[str, object] = {}
        self._making = threading.RLock()

    def refresh(self) -> int:
        """Read what was saved since the last call; returns the revision read."""
        self._take_measurements()
        more = True
        while more:
            with self._lock, _garbage_collection_paused():
                news, self.revision, more = self.study.store.news(
                    self.study.record, self.revision, at_most=AT_ONCE, on_unreadable=self._note
                )
                if news:
                    self._take(news)
                    self._made = {}
        self.read = True
        return self.revision

    def _note(self, unreadable: Unreadable) -> None:
        self.unreadable[f"{unreadable.what} {unreadable.name}"] = unreadable

    def _take(self, news: list[TrialNews]) -> None:
        self.last_change = max(self.last_change, *(each.finished or each.started for each in news))
        finals: set[int] = set()
        for each in news:
            place = (each.stage, each.number)
            if each.state is TrialState.RUNNING:
                self.running[place] = Running(each.stage, each.number, each.worker, each.started, each.steps)
            else:
                self.running.pop(place, None)
            if each.stage == "final" and each.state is TrialState.COMPLETE:
                finals.add(each.number)
        searched = [each for each in news if each.stage == "search"]
        for number in self._columns.take(searched):
            self._note(Unreadable("search trial", str(number), "it lacks an objective"))
        for each in searched:
            self._whole.pop(each.number, None)
        if searched:
            self._scored = None
            self._members = self._front()
        self._take_finalists(finals)

    def _take_measurements(self) -> None:
        with self._lock:
            last = self.study.store.last_measurement(self.study.record)
            if last != self.last_measurement:
                self.measured, self.last_measurement, self._made = self.study.measured(), last, {}

    def kept(self, name: str, make: Callable[[], T]) -> T:
        """What `make` says, made anew only after something was read; `name` tells it from other such things.

        Whoever asks while it is being made waits for it: many readers of one page cost as much as one.
        """
        with self._making:
            made = self._made
            if name not in made:
                made[name] = make()
            found: T = made[name]  # type: ignore[assignment]  # one name is always made alike
            return found

    def _take_finalists(self, numbers: set[int]) -> None:
        name = self.study.quality.name if self.study.quality else ""
        store = self.study.store
        for trial in store.trials_numbered(self.study.record, numbers, "final", on_unreadable=self._note):
            if name in trial.values:
                self.finalists.setdefault(trial.digest, {})[trial.fidelity.steps] = trial.values[name]

    def _front(self) -> tuple[Trial, ...]:
        """The members of the front, whole; one that cannot be read makes way for those behind it."""
        members = [trial.number for trial in self._members]
        while True:
            rows = self._columns.compared(members)
            numbers, costs = self._columns.numbers_and_costs(rows, self.objectives)
            kept = np.flatnonzero(nondominated_mask(costs))
            front = [int(numbers[i]) for i in sorted(kept, key=lambda i: tuple(costs[i]))]
            found = self.whole(front)
            lost = [number for number in front if number not in found]
            if not lost:
                return tuple(found[number] for number in front)
            self._columns.leave_out(lost)

    @property
    def scored(self) -> Scored:
        """The architectures whose objectives are known after the most training steps, each once."""
        with self._lock:
            if self._scored is None:
                self._scored = self._columns.scored(self.whole)
            return self._scored

    @property
    def known(self) -> Known:
        """All of this as it was at one time: threads go on reading meanwhile."""
        return self.kept("known", self._known)

    def _known(self) -> Known:
        with self._lock:
            scored, measured = self.scored, self.measured
        return Known.of(scored, measured)

    @property
    def members(self) -> tuple[Trial, ...]:
        """The front in all objectives, as in `Study.front`: without those that are dominated as measured.

        The best of the first objective comes first.
        """
        return self.kept("members", self._undominated)

    def _undominated(self) -> tuple[Trial, ...]:
        with self._lock:
            front, measured = self._members, self.measured
        return tuple(self.study.undominated_as_measured(front, measured))

    @property
    def predicted_members(self) -> tuple[Trial, ...]:
        """The front in all objectives as the search knew them, whatever was measured since."""
        with self._lock:
            return self._members

    def whole(self, numbers: Iterable[int]) -> Mapping[int, Trial]:
        """Trials of the search by their numbers; what cannot be read is left out, and noted."""
        with self._lock:
            wanted = list(dict.fromkeys(numbers))
            missing = [number for number in wanted if number not in self._whole]
            if missing:
                store = self.study.store
                for trial in store.trials_numbered(self.study.record, missing, on_unreadable=self._note):
                    self._whole[trial.number] = trial
            found = {number: self._whole[number] for number in wanted if number in self._whole}
            keep = KEPT + len(self._members)
            while len(self._whole) > keep + len(found):
                self._whole.popitem(last=False)
            return found

    def trial(self, number: int) -> Trial | None:
        """A scored trial by its number."""
        scored = self.scored
        known = abs(number) < 2**63 and bool((scored.numbers == number).any())
        return self.whole([number]).get(number) if known else None

    def numbered(self, digest: str) -> int | None:
        """The number of the scored trial whose digest begins like this, if there is one only."""
        scored = self.scored
        if not digest or not len(scored):
            return None
        places = np.flatnonzero(np.char.startswith(scored.digests, digest))
        return int(scored.numbers[places[0]]) if len(places) == 1 else None

    def one_line(self, trial: Trial) -> str:
        """The architecture of a trial in one line, cached."""
        if trial.digest not in self._one_lines:
            self._one_lines[trial.digest] = one_line_of(self.study, trial)
        return self._one_lines[trial.digest]

    def quantities(self) -> list[Quantity]:
        """The quantities of axes: the objectives, then all other numbers of the trials."""
        first = [objective.name for objective in self.objectives]
        names = dict.fromkeys([*first, *sorted(self.scored.columns)])
        return [quantity(name, self.study) for name in names]

    @property
    def distinct(self) -> int:
        """The number of architectures that are scored, after however many steps."""
        with self._lock:
            return self._columns.distinct

    @property
    def done(self) -> int:
        """The number of trials that count towards the plan."""
        with self._lock:
            return self._columns.counted

    def counts(self) -> dict[str, int]:
        """The number of candidates by state."""
        with self._lock:
            return self._columns.states()

    def failures(self) -> Counter[str]:
        """The reasons of failed candidates, with how often each is on record."""
        with self._lock:
            return Counter(self._columns.reasons.values())

    def finished_times(self) -> Numbers:
        """When trials that count were finished, in seconds since 1970, in the order of their numbers."""
        with self._lock:
            return self._columns.finished_times()


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
