"""`nas replay`: every proposal of a search derived again, from its space, its seed and what it had heard.

Workers finish in an order that nobody decides. Each trial has on record how many outcomes its strategy had
heard when it proposed it (`Trial.heard`), and which place its own outcome had among them (`Trial.told`). So
the search can be gone through again: outcomes are taken from the record, nothing is scored, and every
proposal must be the one on record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from foundation.errors import SettingError
from foundation.text import count
from nas.driver import Loop, as_told
from nas.engines.base import engines
from nas.executors.local import InProcess
from nas.objectives.base import CostModel
from nas.progress import Progress
from nas.search_setup import Search
from nas.steps.base import Context
from nas.steps.profile import cost_model
from nas.steps.search import prepare_engine, search_of
from nas.store.folders import working_in
from nas.study.plan_objectives import needing_tables
from nas.study.resuming import require_installed
from nas.study.study import Study
from nas.study.trial import Trial, TrialState


@dataclass(frozen=True)
class Replayed:
    """How many proposals came out as on record; `differs` says where the first other one is, if one is."""

    equal: int
    differs: str = ""

    def __str__(self) -> str:
        same = f"{count(self.equal, 'proposal')} derived again, all as on record"
        return f"after {count(self.equal, 'equal proposal')}: {self.differs}" if self.differs else same


def replay_study(study: Study, progress: Progress) -> Replayed:
    """Derive the proposals of a study again, up to the first that differs.

    Raises:
        SettingError: it has no trials, or the order of their outcomes is not on record.
        SpaceError: nothing satisfies the constraints.
    """
    require_installed(study)
    trials, unreadable = study.readings()
    if unreadable:
        raise SettingError(
            f"{count(len(unreadable), 'trial')} of study {study.name} cannot be read, and so neither what its"
            " strategy heard: nothing can be derived from the rest"
        )
    _require_order(study.name, trials)
    context = Context(study=study, progress=progress)
    with working_in(study.folder), progress.bar("replaying", len(trials)) as bar:
        own = engines[study.plan.engine].asks_strategy  # otherwise the engine's work is found in its folder
        model = cost_model(context) if needing_tables(study.plan) else CostModel.of(study.plan.scenarios)
        strategy = None if own else prepare_engine(context).strategy
        search = search_of(study, InProcess({}), strategy=strategy, cost_model=model)
        return replay(search, trials, bar.update)


def replay(
    search: Search, trials: Sequence[Trial], on_proposal: Callable[[int], None] = lambda done: None
) -> Replayed:
    """Derive the proposals of these trials, which have the order of their outcomes; nothing is stored."""
    loop, outcomes = Loop(search), as_told(trials)
    next_outcome = 0
    for done, trial in enumerate(trials):
        while next_outcome < (trial.heard or 0):
            _hear(loop, outcomes[next_outcome])
            next_outcome += 1
        loop.next_number = trial.number
        derived, _ = loop.propose()
        if (derived.genotype, derived.fidelity) != (trial.genotype, trial.fidelity):
            on_record, steps = (f"{each.digest} ({each.fidelity.steps} steps)" for each in (trial, derived))
            differs = f"trial {trial.number} is {on_record}, and {steps} was derived"
            return Replayed(done, differs)
        # a scheduler may have noted what was so then, and is not now: how many candidates were to come
        derived = replace(derived, memo=trial.memo)
        if derived.state is TrialState.RUNNING:
            loop.running[trial.number] = derived
        else:
            loop.record(derived)
        loop.unsaved.clear()
        on_proposal(done + 1)
    return Replayed(len(trials))


def _hear(loop: Loop, outcome: Trial) -> None:
    """Tell the strategy what came of a trial that was scored; what was decided at once it has heard."""
    running = loop.running.pop(outcome.number, None)
    if running is not None:
        ended = ("state", "reason", "values", "finished", "worker", "reused")
        loop.record(replace(running, **{name: getattr(outcome, name) for name in ended}))
        if outcome.reused is None:
            loop.waiting_twins.pop(outcome.digest, None)


def _require_order(name: str, trials: Sequence[Trial]) -> None:
    """Raise where the record does not say in which order the outcomes were heard."""
    if not trials:
        raise SettingError(f"study {name} has no trials yet: there is nothing to replay")
    ended = [trial for trial in trials if trial.state is not TrialState.RUNNING]
    told = sorted(trial.told for trial in ended if trial.told is not None)
    if len(told) < len(ended) or any(trial.heard is None for trial in trials):
        raise SettingError(
            f"the order in which the outcomes of study {name} were heard is not on record: several searches"
            " were merged, or an older nas made it; it cannot be replayed"
        )
    if told != list(range(len(told))):
        raise SettingError(
            f"the outcomes of study {name} have no single order: several processes searched it at once, or"
            " trials were removed; it cannot be replayed"
        )
