"""The loop of a search: ask, check, score, record, tell.

A trial is written as RUNNING before its work starts, in the same transaction as the outcomes that came before
it. So after any death the store holds every trial exactly once, and a resumed search repeats those that were
still running, tells its strategy all earlier outcomes, and asks what it would have asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from foundation.error_text import told
from foundation.errors import IllegalArchitecture, SpaceError
from nas.evaluator_faults import EvaluatorFaults
from nas.executors.base import Outcome, WorkItem
from nas.judging import Judge, answered, ended, of_strategy
from nas.pace import Ended, Pace
from nas.schedulers.base import Beginning, Promotion
from nas.schedulers.full import everyone_in_full
from nas.search_setup import Search
from nas.strategies.base import Proposal
from nas.study.deaths import after_death, stopped
from nas.study.trial import CANDIDATE, Trial, TrialState
from search_spaces.language.space import Space

MAX_ILLEGAL = 1000
"""How many proposals in a row may be no architectures before the search gives up."""


def run(search: Search, trials: int) -> None:
    """Continue a search until `trials` candidates were scored; those that violate a constraint do not count.

    Nor do the further trainings of candidates that the scheduler promotes. It ends before where every
    architecture of the space was tried.

    Raises:
        SpaceError: nothing satisfies the constraints.
        EvaluationFailed: the evaluator fails again and again.
    """
    Loop(search).run(trials)


def every_architecture_tried(space: Space, trials: Iterable[Trial]) -> bool:
    """Whether the ended trials of a search cover the whole space."""
    size = space.size()
    tried = {trial.digest for trial in trials if trial.state is not TrialState.RUNNING}
    return len(tried) >= size


class Loop:
    """The state of one run of the loop; everything lasting is in the store."""

    def __init__(self, search: Search) -> None:
        self.search, self.judge = search, Judge(search)
        self.pace = Pace(search.executor, slow=search.strategy.slow_after_news)
        self.scheduler = search.scheduler or everyone_in_full(search.fidelity.steps)
        self.running: dict[int, Trial] = {}
        self.unsaved: list[Trial] = []
        self.waiting_twins: dict[str, list[Trial]] = {}
        self.next_number = 0
        self.faults = EvaluatorFaults()
        self.told = 0  # outcomes that the strategy has heard
        self.size = search.space.size()
        with of_strategy(search.strategy):
            search.strategy.inform(search.known)

    def run(self, trials: int) -> None:
        """Continue until `trials` candidates were scored; see `run` of this module."""
        try:
            try:
                self._work(trials)
            finally:
                self._hear(self.pace.take())
        finally:
            # what still runs when this stops in good order is no suspect
            self.unsaved += map(stopped, self.running.values())
            self._save()

    def _work(self, trials: int) -> None:
        items = self._take_up()
        while True:
            items += self._ask_for_more(trials)
            self._save()
            if items:
                self.pace.submit(items)
                items = []
            if not self.running:
                return
            self._hear(self.pace.collect())

    def _hear(self, outcomes: Iterable[Ended]) -> None:
        for outcome, when in outcomes:
            self._finish(outcome, when)

    def _take_up(self) -> list[WorkItem]:
        """Tell the strategy all that went before; items for what was running when the driver died."""
        items, search = [], self.search
        recorded = search.recorded() if search.recorded else search.store.trials(search.study_id, "search")
        self.next_number = search.store.next_number(search.study_id, "search")
        for trial in as_told(recorded):
            self.told = 1 + (self.told if trial.told is None else max(self.told, trial.told))
            self.judge.count(trial)
            self._tell(trial)
            if (trial.counts or trial.goes_on) and trial.reused is None:
                self.faults.ended(succeeded=trial.state is not TrialState.FAILED)
        for trial in recorded:
            if trial.state is TrialState.RUNNING:
                items += self._take_up_running(trial)
        return items

    def _take_up_running(self, trial: Trial) -> list[WorkItem]:
        if self.search.executor.in_this_process and not self.running:  # it alone was being scored
            trial = after_death(trial)
            if trial.state is TrialState.FAILED:
                self.record(trial)
                return []
            self.unsaved.append(trial)
        if trial.digest in self.judge.finished and not trial.goes_on:
            self.record(answered(trial, self.judge.finished[trial.digest]))
            return []
        try:
            spec = self.search.space.close(trial.genotype)
        except IllegalArchitecture as error:  # its record was changed
            self.record(ended(trial, TrialState.ILLEGAL, reason=told(error, kind=False)))
            return []
        self.running[trial.number] = trial
        self.scheduler.tell(trial)
        if not trial.goes_on:
            with of_strategy(self.search.strategy):
                self.search.strategy.take_up(trial)
        if trial.digest in self.waiting_twins:
            self.waiting_twins[trial.digest].append(trial)
            return []
        return [self._item(trial, spec)]

    def _ask_for_more(self, trials: int) -> list[WorkItem]:
        items = []
        room = self.search.executor.capacity
        while len(self.running) - self.pace.held < room and (
            self._wants_more(trials) or self.scheduler.promotion()
        ):
            trial, spec = self.propose()
            if trial.state is TrialState.RUNNING:
                self.running[trial.number] = trial
                self.unsaved.append(trial)
                if spec is not None:
                    items.append(self._item(trial, spec))
            else:
                self.record(trial)
        return items

    def _wants_more(self, trials: int) -> bool:
        """Whether there are to be further candidates, and architectures that nobody has tried."""
        begun = sum(not trial.goes_on for trial in self.running.values())
        return self.judge.done + begun < trials and len(self.judge.tried) + begun < self.size

    def propose(self) -> tuple[Trial, Any]:
        """The next trial, of a candidate that goes on or a new one: RUNNING, or already decided."""
        promotion = self.scheduler.promotion()
        trial, spec = self._new() if promotion is None else self._further(promotion)
        if trial.state is TrialState.RUNNING:
            self.scheduler.tell(trial)
        return trial, spec

    def _further(self, promotion: Promotion) -> tuple[Trial, Any]:
        """The next trial, which trains a candidate further."""
        number, self.next_number = self.next_number, self.next_number + 1
        earlier = promotion.trial
        memo = {**earlier.memo, CANDIDATE: earlier.candidate}
        begun = Beginning(promotion.steps, memo)
        return self.judge.allowed(self.judge.trial(number, earlier.genotype, begun, self.told))

    def _new(self) -> tuple[Trial, Any]:
        """The next trial, of a candidate that the strategy proposes."""
        number, self.next_number = self.next_number, self.next_number + 1
        with of_strategy(self.search.strategy), self.pace.proposing():
            proposal = self.search.strategy.ask(number)
        trial, spec = self._judged(number, proposal)
        if self.judge.is_to_be_moved(trial):
            trial, spec = self._judged(number, self.judge.near(number, proposal, self.running.values()))
        if spec is not None and trial.digest in self.waiting_twins:
            self.waiting_twins[trial.digest].append(trial)
            return trial, None
        return trial, spec

    def _judged(self, number: int, proposal: Proposal) -> tuple[Trial, Any]:
        """The trial of a proposal: RUNNING with its architecture, or decided without being scored."""
        begun = self.scheduler.begin()
        begun = Beginning(begun.steps, {**proposal.memo, **begun.memo})
        return self.judge.judged(self.judge.trial(number, proposal.genotype, begun, self.told), proposal.spec)

    def _item(self, trial: Trial, spec: Any) -> WorkItem:
        self.waiting_twins.setdefault(trial.digest, [])
        return WorkItem(trial.number, spec, trial.fidelity.steps, trial.seed)

    def _finish(self, outcome: Outcome, when: float) -> None:
        trial = self.running.pop(outcome.number)
        values = {**trial.values, **outcome.values}
        finished = ended(trial, outcome.state, reason=outcome.reason, values=values)
        self.record(replace(finished, worker=outcome.worker, finished=when))
        for twin in self.waiting_twins.pop(trial.digest, []):
            self.record(answered(self.running.pop(twin.number), finished))
        if outcome.unexpected:
            self.faults.broke(outcome.reason or "")
        else:
            self.faults.ended(succeeded=finished.state is not TrialState.FAILED)

    def record(self, trial: Trial) -> None:
        """An outcome: to be saved, counted and told to the strategy."""
        trial = replace(trial, told=self.told)
        self.told += 1
        self.unsaved.append(trial)
        self.judge.count(trial)
        self._tell(trial)
        self.search.on_trial(trial)
        if self.judge.violations >= MAX_ILLEGAL:
            raise SpaceError(
                f"{MAX_ILLEGAL} proposals in a row cannot be candidates, the last because {trial.reason}"
            )

    def _tell(self, trial: Trial) -> None:
        """Let scheduler and strategy hear of an outcome."""
        search = self.search
        self.scheduler.tell(trial)
        believed = self.scheduler.believed(trial)
        with of_strategy(self.search.strategy):
            if trial.goes_on:
                search.strategy.refine(replace(believed, number=trial.candidate))
            else:
                search.strategy.tell(believed)
            for revised in self.scheduler.revised():
                search.strategy.refine(revised)
        for dropped in self.scheduler.without_prospects():
            search.on_dropped(dropped)

    def _save(self) -> None:
        if self.unsaved:
            # only the latest state of a trial is saved, should it have begun and ended since
            latest = {trial.number: trial for trial in self.unsaved}
            self.search.store.save(self.search.study_id, latest.values())
            self.unsaved = []


def as_told(trials: Iterable[Trial]) -> list[Trial]:
    """The trials that have ended, in the order in which a strategy hears of them: older records by number."""
    ended = (trial for trial in trials if trial.state is not TrialState.RUNNING)
    return sorted(ended, key=lambda t: (-1 if t.told is None else t.told, t.number))
