"""What is known of a candidate before it is scored: its cheap objectives, and the constraints on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nas.objectives.base import CostModel, Objective
from nas.study.constraints import Constraint
from nas.study.trial import Value


@dataclass(frozen=True, kw_only=True)
class KnownCosts:
    """The cheap objectives that a study trades off or bounds, and its constraints; empty without them.

    `cost_model` is what they are computed from besides the architecture.
    """

    objectives: tuple[Objective, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    cost_model: CostModel | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the objectives."""
        return tuple(objective.name for objective in self.objectives)

    def values(self, specs: Sequence[Any]) -> dict[str, list[float]]:
        """By name, each objective of these architectures, all at once where a table predicts them.

        Raises:
            EvaluationFailed: a function of a user's own fails on one of them.
        """
        if self.cost_model is None:
            return {}
        return {each.name: each.of_networks(self.cost_model)(specs) for each in self.objectives}

    def violation(self, spec: Any) -> str | None:
        """Why an architecture breaks a constraint, or None.

        Raises:
            EvaluationFailed: a function of a user's own fails on it.
        """
        wanted = {constraint.name for constraint in self.constraints}
        costs = {
            each.name: each.cheap(spec, self.cost_model)
            for each in self.objectives
            if each.name in wanted and each.cheap and self.cost_model
        }
        return self.broken(costs)

    def broken(self, costs: dict[str, Value]) -> str | None:
        """The same of costs that were computed."""
        return next(filter(None, (constraint.violation(costs) for constraint in self.constraints)), None)


NOTHING_KNOWN = KnownCosts()
