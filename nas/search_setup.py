"""What the loop of a search works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nas.executors.base import Executor
from nas.objectives.base import CostModel, Objective
from nas.schedulers.base import Scheduler
from nas.store import Store
from nas.strategies.base import Strategy
from nas.study.constraints import Constraint
from nas.study.known_costs import KnownCosts
from nas.study.trial import Fidelity, Trial
from search_spaces.language.space import Space


@dataclass(frozen=True, kw_only=True)
class Search:
    """All that a search is made of; `cheap` are the objectives to record besides what scorers return.

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
