"""What becomes of a proposal before anything is trained, and what became of those before it.

A proposal that was scored before has the outcome of that trial; one that is no architecture, or breaks a
constraint on what can be computed, is decided at once. Where too many in a row break one, the next is moved
to an architecture near by that keeps them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from random import Random
from typing import Any

from foundation.error_text import told
from foundation.errors import EvaluationFailed, IllegalArchitecture
from nas.schedulers.base import Beginning
from nas.search_setup import Search
from nas.strategies.base import Proposal, Strategy
from nas.study.deaths import died
from nas.study.own_code import own_code
from nas.study.satisfiable import Feasible
from nas.study.trial import Trial, TrialState, Value
from search_spaces.language.genotype import Genotype

MAX_VIOLATIONS = 10
"""How many candidates in a row may break a constraint before the next is moved to one that keeps them."""

MOVED = "moved"
"""In the memo of a trial that was moved."""

MOVED_OFTEN = 4
"""Where at least one candidate of so many had to be moved, fewer and fewer may break a constraint before."""


class Judge:
    """Judges the proposals of a search by its outcomes so far, which it is told by `count`."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.finished: dict[str, Trial] = {}
        self.tried = set[str]()
        self.done = 0  # candidates that were scored
        self.violations = 0  # in a row
        self.moved = 0  # candidates that were scored where the strategy's broke a constraint

    def count(self, trial: Trial) -> None:
        """A trial has ended."""
        if trial.goes_on:  # its candidate is counted
            return
        if trial.reused is None and (trial.state is not TrialState.FAILED or died(trial)):
            self.finished[trial.digest] = trial  # what failed (a lost worker, say) may be tried again
        self.tried.add(trial.digest)
        self.done += trial.counts
        self.moved += trial.counts and MOVED in trial.memo
        self.violations = 0 if trial.counts else self.violations + 1

    def trial(self, number: int, genotype: Genotype, begun: Beginning, heard: int) -> Trial:
        """A trial that begins now, after so many outcomes."""
        return Trial(
            number=number,
            genotype=genotype,
            fidelity=replace(self.search.fidelity, steps=begun.steps),
            seed=self.search.seed,
            started=time.time(),
            memo=begun.memo,
            heard=heard,
        )

    def judged(self, trial: Trial, spec: Any) -> tuple[Trial, Any]:
        """A proposal's trial with its architecture, to be scored, or what was decided without."""
        twin = self.finished.get(trial.digest)
        return (answered(trial, twin), None) if twin is not None else self.allowed(trial, spec)

    def allowed(self, trial: Trial, spec: Any = None) -> tuple[Trial, Any]:
        """A trial with what is known before training, and its architecture; or why it cannot be scored."""
        try:
            spec = spec if spec is not None else self.search.space.close(trial.genotype)
            values = self._costs(spec)
        except IllegalArchitecture as error:
            return ended(trial, TrialState.ILLEGAL, reason=told(error, kind=False)), None
        except EvaluationFailed as error:  # of an objective of a user's own
            return ended(trial, TrialState.FAILED, reason=told(error, kind=False)), None
        violation = next(filter(None, (c.violation(values) for c in self.search.constraints)), None)
        if violation:
            return ended(trial, TrialState.INFEASIBLE, reason=violation, values=values), None
        return replace(trial, values=values), spec

    def is_to_be_moved(self, trial: Trial) -> bool:
        """Whether a proposal breaks a constraint as too many before it: fewer, the more had to be moved."""
        patience = MAX_VIOLATIONS >> self.moved if MOVED_OFTEN * self.moved >= self.done else MAX_VIOLATIONS
        return trial.state is TrialState.INFEASIBLE and self.violations >= patience

    def near(self, number: int, proposal: Proposal, running: Iterable[Trial]) -> Proposal:
        """A proposal moved to an architecture near by that keeps the constraints, a new one if there is.

        Raises:
            SpaceError: nothing keeps the constraints.
        """
        known = [trial.genotype for trial in self.finished.values() if trial.counts]
        tried = self.tried | {trial.digest for trial in running}
        dice = Random(f"{self.search.seed}/{number}/moved")
        genotype, spec = self._feasible.near(proposal.genotype, known, dice=dice, tried=tried)
        with of_strategy(self.search.strategy):
            moved = self.search.strategy.moved(proposal, genotype, spec)
        return replace(moved, memo={**moved.memo, MOVED: True})

    @cached_property
    def _feasible(self) -> Feasible:
        search = self.search
        assert search.cost_model is not None
        return Feasible(search.space, search.constraints, search.cost_model)

    def _costs(self, spec: Any) -> dict[str, Value]:
        """The objectives that are computed before training."""
        costs, model = self.search.cheap, self.search.cost_model
        return {o.name: o.cheap(spec, model) for o in costs if o.cheap and model}


def answered(trial: Trial, twin: Trial) -> Trial:
    """A repeated architecture has the outcome of its earlier trial."""
    repeat = ended(trial, twin.state, reason=twin.reason, values=twin.values)
    return replace(repeat, reused=twin.number, fidelity=twin.fidelity)


def ended(
    trial: Trial,
    state: TrialState,
    *,
    reason: str | None = None,
    values: Mapping[str, Value] | None = None,
) -> Trial:
    """The trial with its outcome."""
    return replace(trial, state=state, reason=reason, values=dict(values or {}), finished=time.time())


def of_strategy(strategy: Strategy) -> AbstractContextManager[None]:
    """Where a strategy is called, which may be a user's own."""
    kind = type(strategy)
    return own_code(f"the strategy {kind.name}", kind.__module__)
