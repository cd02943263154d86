"""The costs that differentiable search aims at: targets on one objective, from cheap to expensive."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Any

from evaluators.differentiable.expected_cost import expected_cost
from evaluators.differentiable.lagrangian import Pull
from evaluators.differentiable.repair import Target
from foundation.errors import SettingError
from nas.engines.base import Setup
from nas.objectives.base import Objective, objectives
from nas.study.constraints import first_violation, parsed_constraints
from nas.study.plan import Plan
from search_spaces.language.space import Space

SAMPLED = 200
"""Random architectures whose costs the targets are spread over."""

TAILS = (0.1, 0.9)
"""The quantiles between which they are spread."""


def swept_objective(name: str, plan: Plan) -> Objective | None:
    """The objective on which targets are set: the named one, else the first that is cheap; None without one.

    Raises:
        UnknownName: no such objective.
        SettingError: it is not cheap.
    """
    if name:
        if objectives[name].cheap is None:
            raise SettingError(f"engine darts: {name} is {objectives[name].when_known}")
        return objectives[name]
    registered = [objectives[asked] for asked in plan.objectives if asked in objectives]
    return next((objective for objective in registered if objective.cheap is not None), None)


def sweep_of(setup: Setup, objective: Objective, targets: Sequence[float], points: int) -> list[Pull]:
    """A pull towards each of the `targets`, or towards `points` costs of random architectures.

    Raises:
        SpaceError: nothing in the space satisfies the constraints.
    """
    total = objective.of_networks(setup.cost_model)
    expected = expected_cost(setup.space, total, seed=setup.plan.seed)
    values = list(targets)
    if not values:
        space, dice = allowed_space(setup), Random(f"{setup.plan.seed}/targets")
        costs = total([space.close(space.sample(dice)) for _ in range(SAMPLED)])
        values = spread_values(costs, points)
    return [Pull(Target(objective.name, value, total), expected) for value in dict.fromkeys(values)]


def spread_values(costs: Sequence[float], points: int) -> list[float]:
    """`points` of these costs, as evenly spread as they allow between the tails.

    Only costs that some architecture has: in a coarse space nothing may lie near other values.
    """
    ordered = sorted(costs)
    low, high = (ordered[round(tail * (len(ordered) - 1))] for tail in TAILS)
    steps = max(1, points - 1)
    wished = [low + (high - low) * i / steps for i in range(points)]
    return [min(ordered, key=partial(_distance, wish)) for wish in wished]


def _distance(wish: float, cost: float) -> float:
    return abs(cost - wish)


def allowed_space(setup: Setup) -> Space:
    """The study's space, less what its constraints on predicted numbers forbid."""
    constraints = parsed_constraints(setup.plan)

    def keeps_constraints(spec: Any) -> bool:
        return first_violation(constraints, spec, setup.cost_model) is None

    added = [keeps_constraints] if constraints else []
    return Space(setup.space.root, constraints=[*setup.space.constraints, *added], name=setup.space.name)
