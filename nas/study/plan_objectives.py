"""The objectives of a plan: what it trades off or bounds, what is recorded, and what is learned."""

from __future__ import annotations

from dataclasses import replace

from foundation.errors import SettingError, UnknownName
from foundation.registry import nearest
from nas.objectives.base import CostModel, Objective, ObjectiveFunction, objectives
from nas.study.constraints import Constraint, gates_of, parsed_constraints
from nas.study.plan import SCENARIO_MARK, Plan
from search_spaces.language.choices import OneOf
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder
from search_spaces.scenario import Scenario


def scored_names(plan: Plan) -> tuple[str, ...]:
    """The scores of tasks in a plan: those that are traded off, then those that are only gates."""
    names = dict.fromkeys([*plan.objectives, *(gate.name for gate in gates_of(plan))])
    return tuple(name for name in names if name in objectives and objectives[name].task)


def quality_of(plan: Plan) -> str | None:
    """The first score of a task in a plan, whose weights are kept; None where nothing is trained."""
    return next(iter(scored_names(plan)), None)


def quality_name(plan: Plan) -> str:
    """The same, where there must be one.

    Raises:
        SettingError: nothing is trained.
    """
    name = quality_of(plan)
    if name is None:
        scored = ", ".join(o.name for o in objectives.values() if o.task)
        raise SettingError(f"nothing is trained in this study: none of its objectives is one of {scored}")
    return name


def zero_cost_names(plan: Plan) -> tuple[str, ...]:
    """The zero-cost scores that a plan trades off, then those that it only shows.

    Raises:
        UnknownName: no such score.
    """
    traded = [name for name in plan.objectives if name in objectives and objectives[name].zero_cost]
    for name in plan.zero_cost:
        if name not in objectives or not objectives[name].zero_cost:
            known = [each.name for each in objectives.values() if each.zero_cost]
            raise UnknownName(f"unknown zero-cost score {name!r}; {nearest(name, known)}")
    return tuple(dict.fromkeys([*traded, *plan.zero_cost]))


def goals_of(plan: Plan) -> list[tuple[str, bool]]:
    """By objective, its name and whether it is maximised."""
    return [(name, name in objectives and objectives[name].maximise) for name in plan.objectives]


def asked_objectives(plan: Plan) -> list[Objective]:
    """The registered objectives that a plan trades off or bounds."""
    names = [*plan.objectives, *(constraint.name for constraint in parsed_constraints(plan))]
    return [objectives[name] for name in dict.fromkeys(names) if name in objectives]


def scored_functions(plan: Plan) -> dict[str, ObjectiveFunction]:
    """By name, the declared functions that workers score."""
    return {each.name: each.scored_by for each in asked_objectives(plan) if each.scored_by}


def with_own_bounds(plan: Plan) -> Plan:
    """The plan with the bounds that its objectives were declared with among its constraints."""
    bounds = [bound for objective in asked_objectives(plan) for bound in objective.bounds]
    return replace(plan, constraints=tuple(dict.fromkeys([*plan.constraints, *bounds])))


def needing_tables(plan: Plan) -> list[Scenario]:
    """The scenarios in which latency is asked for."""
    names = {objective.scenario for objective in asked_objectives(plan) if objective.needs_table}
    if len(plan.scenarios) == 1:
        return list(plan.scenarios) if names else []
    return [scenario for scenario in plan.scenarios if scenario.name in names]


def recorded_costs(space: Space, plan: Plan, cost_model: CostModel) -> tuple[Objective, ...]:
    """The objectives that are computed for every trial: the plan's, and of a decoder all that are fast."""
    recorded = {objective.name: objective for objective in asked_objectives(plan)}
    for objective in objectives.values() if is_decoder_space(space) else ():
        if objective.cheap and not objective.on_request:
            recorded |= {each.name: each for each in cost_model.variants_of(objective)}
    return tuple(each for each in recorded.values() if each.cheap and cost_model.ready(each))


def is_decoder_space(space: Space) -> bool:
    """Whether the architectures of a space are decoders, which the library's own objectives are about."""
    root = space.root
    while isinstance(root, OneOf):
        root = root.options[0]
    return isinstance(root, Decoder)


def under_all_scenarios(plan: Plan) -> Plan:
    """The plan with what differs between scenarios asked under each of them, where it has several.

    `decode_ms` becomes `decode_ms@chat` and `decode_ms@batch`; so do constraints.
    """
    if len(plan.scenarios) == 1:
        return plan

    def names(name: str) -> list[str]:
        if SCENARIO_MARK in name or name not in objectives or not objectives[name].per_scenario:
            return [name]
        return [plan.under(name, scenario) for scenario in plan.scenarios]

    constraints = []
    for text in plan.constraints:
        name = Constraint.parse(text).name
        constraints += [text.replace(name, full, 1) for full in names(name)]
    asked = dict.fromkeys(full for name in plan.objectives for full in names(name))
    return replace(plan, objectives=tuple(asked), constraints=tuple(constraints))
