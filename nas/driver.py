"""The loop of a search: ask, check, score, record, tell.

A trial is written as RUNNING before its work starts, in the same transaction as the outcomes that came before
it. So after any death the store holds every trial exactly once, and a resumed search repeats those that were
still running, tells its strategy all earlier outcomes, and asks what it would have asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import Any

from foundation.error_text import told
from foundation.errors import EvaluationFailed, IllegalArchitecture, SpaceError
from nas.evaluator_faults import EvaluatorFaults
from nas.executors.base import Executor, Outcome, WorkItem
from nas.objectives.base import CostModel, Objective
from nas.pace import Ended, Pace
from nas.schedulers.base import Beginning, Promotion, Scheduler
from nas.schedulers.full import everyone_in_full
from nas.store import Store
from nas.strategies.base import Proposal, Strategy
from nas.study.constraints import Constraint
from nas.study.deaths import after_death, died, stopped
from nas.study.known_costs import KnownCosts
from nas.study.own_code import own_code
from nas.study.satisfiable import Feasible
from nas.study.trial import CANDIDATE, Fidelity, Trial, TrialState, Value
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space

MAX_VIOLATIONS = 10
"""How many candidates in a row may break a constraint before the next is moved to one that keeps them."""

MOVED = "moved"
"""In the memo of a trial that was moved."""

MOVED_OFTEN = 4
"""Where at least one candidate of so many had to be moved, fewer and fewer may break a constraint before."""

MAX_ILLEGAL = 1000
"""How many proposals in a row may be no architectures before the search gives up."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What the loop works with; `cheap` are the objectives to record besides what scorers return.

    `recorded` reads the trials so far; without those that cannot be read, whose numbers are not given again.
    Without a `scheduler` every candidate is trained at the fidelity in full. `on_dropped` hears of trials
    whose candidates will not be trained further.
    """

    store: Store
    study_id: int
    space: Space
    strategy: Strategy
    executor: Executor
    fidelity: Fidelity
    seed: int
    scheduler: Scheduler | None = None
    cost_model: CostModel | None = None
    cheap: tuple[Objective, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    on_trial: Callable[[Trial], None] = lambda trial: None
    recorded: Callable[[], list[Trial]] | None = None
    on_dropped: Callable[[Trial], None] = lambda trial: None

    @property
    def known(self) -> KnownCosts:
        """What a strategy may compute of candidates: the cheap goals, and what is bounded."""
        asked = {name for name, _ in self.strategy.goals} | {each.name for each in self.constraints}
        cheap = tuple(each for each in self.cheap if each.name in asked)
        return KnownCosts(objectives=cheap, constraints=self.constraints, cost_model=self.cost_model)


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
        self.search = search
        self.pace = Pace(search.executor, slow=search.strategy.slow_after_news)
        self.scheduler = search.scheduler or everyone_in_full(search.fidelity.steps)
        self.running: dict[int, Trial] = {}
        self.unsaved: list[Trial] = []
        self.finished: dict[str, Trial] = {}
        self.waiting_twins: dict[str, list[Trial]] = {}
        self.done = self.next_number = 0
        self.violations = 0  # in a row
        self.moved = 0  # candidates that were scored where the strategy's broke a constraint
        self.faults = EvaluatorFaults()
        self.tried = set[str]()
        self.told = 0  # outcomes that the strategy has heard
        self.size = search.space.size()
        with self._of_strategy():
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
            self._count(trial)
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
        if trial.digest in self.finished and not trial.goes_on:
            self.record(self._answered(trial, self.finished[trial.digest]))
            return []
        try:
            spec = self.search.space.close(trial.genotype)
        except IllegalArchitecture as error:  # its record was changed
            self.record(_ended(trial, TrialState.ILLEGAL, reason=told(error, kind=False)))
            return []
        self.running[trial.number] = trial
        self.scheduler.tell(trial)
        if not trial.goes_on:
            with self._of_strategy():
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
        return self.done + begun < trials and len(self.tried) + begun < self.size

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
        return self._allowed(self._trial(number, earlier.genotype, Beginning(promotion.steps, memo)), None)

    def _new(self) -> tuple[Trial, Any]:
        """The next trial, of a candidate that the strategy proposes."""
        number, self.next_number = self.next_number, self.next_number + 1
        with self._of_strategy(), self.pace.proposing():
            proposal = self.search.strategy.ask(number)
        trial, spec = self._judged(number, proposal)
        if trial.state is TrialState.INFEASIBLE and self.violations >= self._patience:
            trial, spec = self._judged(number, self._moved(number, proposal))
        if spec is not None and trial.digest in self.waiting_twins:
            self.waiting_twins[trial.digest].append(trial)
            return trial, None
        return trial, spec

    def _judged(self, number: int, proposal: Proposal) -> tuple[Trial, Any]:
        """The trial of a proposal: RUNNING with its architecture, or decided without being scored."""
        begun = self.scheduler.begin()
        memo = {**proposal.memo, **begun.memo}
        trial = self._trial(number, proposal.genotype, Beginning(begun.steps, memo))
        twin = self.finished.get(trial.digest)
        if twin is not None:
            return self._answered(trial, twin), None
        return self._allowed(trial, proposal.spec)

    def _trial(self, number: int, genotype: Genotype, begun: Beginning) -> Trial:
        search = self.search
        return Trial(
            number=number,
            genotype=genotype,
            fidelity=replace(search.fidelity, steps=begun.steps),
            seed=search.seed,
            started=time.time(),
            memo=begun.memo,
            heard=self.told,
        )

    def _allowed(self, trial: Trial, spec: Any) -> tuple[Trial, Any]:
        """A trial with what is known before training, and its architecture; or why it cannot be scored."""
        try:
            spec = spec if spec is not None else self.search.space.close(trial.genotype)
            values = self._costs(spec)
        except IllegalArchitecture as error:
            return _ended(trial, TrialState.ILLEGAL, reason=told(error, kind=False)), None
        except EvaluationFailed as error:  # of an objective of a user's own
            return _ended(trial, TrialState.FAILED, reason=told(error, kind=False)), None
        violation = self._violation(values)
        if violation:
            return _ended(trial, TrialState.INFEASIBLE, reason=violation, values=values), None
        return replace(trial, values=values), spec

    def _of_strategy(self) -> AbstractContextManager[None]:
        """Where the strategy may be a user's own."""
        kind = type(self.search.strategy)
        return own_code(f"the strategy {kind.name}", kind.__module__)

    @property
    def _patience(self) -> int:
        """How many candidates in a row may break a constraint: the fewer, the more had to be moved so far."""
        return MAX_VIOLATIONS >> self.moved if MOVED_OFTEN * self.moved >= self.done else MAX_VIOLATIONS

    def _moved(self, number: int, proposal: Proposal) -> Proposal:
        """A proposal that breaks a constraint, moved to one near by that keeps them, a new one if there is.

        Raises:
            SpaceError: nothing keeps the constraints.
        """
        known = [trial.genotype for trial in self.finished.values() if trial.counts]
        tried = self.tried | {trial.digest for trial in self.running.values()}
        dice = Random(f"{self.search.seed}/{number}/moved")
        genotype, spec = self._feasible.near(proposal.genotype, known, dice=dice, tried=tried)
        with self._of_strategy():
            moved = self.search.strategy.moved(proposal, genotype, spec)
        return replace(moved, memo={**moved.memo, MOVED: True})

    @cached_property
    def _feasible(self) -> Feasible:
        search = self.search
        assert search.cost_model is not None
        return Feasible(search.space, search.constraints, search.cost_model)

    def _violation(self, costs: Mapping[str, Value]) -> str | None:
        """Why these values break a constraint, or None."""
        return next(filter(None, (c.violation(costs) for c in self.search.constraints)), None)

    def _costs(self, spec: Any) -> dict[str, Value]:
        """The objectives that are computed before training."""
        costs, model = self.search.cheap, self.search.cost_model
        return {o.name: o.cheap(spec, model) for o in costs if o.cheap and model}

    def _item(self, trial: Trial, spec: Any) -> WorkItem:
        self.waiting_twins.setdefault(trial.digest, [])
        return WorkItem(trial.number, spec, trial.fidelity.steps, trial.seed)

    def _finish(self, outcome: Outcome, when: float) -> None:
        trial = self.running.pop(outcome.number)
        ended = _ended(
            trial,
            outcome.state,
            reason=outcome.reason,
            values={**trial.values, **outcome.values},
        )
        self.record(replace(ended, worker=outcome.worker, finished=when))
        for twin in self.waiting_twins.pop(trial.digest, []):
            self.record(self._answered(self.running.pop(twin.number), ended))
        if outcome.unexpected:
            self.faults.broke(outcome.reason or "")
        else:
            self.faults.ended(succeeded=ended.state is not TrialState.FAILED)

    def _answered(self, trial: Trial, twin: Trial) -> Trial:
        """A repeated architecture has the outcome of its earlier trial."""
        ended = _ended(trial, twin.state, reason=twin.reason, values=twin.values)
        return replace(ended, reused=twin.number, fidelity=twin.fidelity)

    def record(self, trial: Trial) -> None:
        """An outcome: to be saved, counted and told to the strategy."""
        trial = replace(trial, told=self.told)
        self.told += 1
        self.unsaved.append(trial)
        self._count(trial)
        self._tell(trial)
        self.search.on_trial(trial)
        if self.violations >= MAX_ILLEGAL:
            raise SpaceError(
                f"{MAX_ILLEGAL} proposals in a row cannot be candidates, the last because {trial.reason}"
            )

    def _tell(self, trial: Trial) -> None:
        """Let scheduler and strategy hear of an outcome."""
        search = self.search
        self.scheduler.tell(trial)
        believed = self.scheduler.believed(trial)
        with self._of_strategy():
            if trial.goes_on:
                search.strategy.refine(replace(believed, number=trial.candidate))
            else:
                search.strategy.tell(believed)
            for revised in self.scheduler.revised():
                search.strategy.refine(revised)
        for dropped in self.scheduler.without_prospects():
            search.on_dropped(dropped)

    def _count(self, trial: Trial) -> None:
        if trial.goes_on:  # its candidate is counted
            return
        if trial.reused is None and (trial.state is not TrialState.FAILED or died(trial)):
            self.finished[trial.digest] = trial  # what failed (a lost worker, say) may be tried again
        self.tried.add(trial.digest)
        self.done += trial.counts
        self.moved += trial.counts and MOVED in trial.memo
        self.violations = 0 if trial.counts else self.violations + 1

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


def _ended(
    trial: Trial,
    state: TrialState,
    *,
    reason: str | None = None,
    values: Mapping[str, Value] | None = None,
) -> Trial:
    return replace(trial, state=state, reason=reason, values=dict(values or {}), finished=time.time())
