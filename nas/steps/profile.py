"""The second step: latency tables of the blocks, for every scenario under which latency is asked for."""

from __future__ import annotations

from nas.objectives.base import CostModel
from nas.steps.base import Context, Step, computed_once, steps
from nas.study.constraints import parsed_constraints
from nas.study.facts import TABLES
from nas.study.plan import Plan
from nas.study.plan_objectives import needing_tables
from nas.study.satisfiable import require_satisfiable
from nas.tables.study_tables import table_for


@computed_once
def cost_model(context: Context) -> CostModel:
    """The study's scenarios, with the tables that an objective or a constraint needs.

    Raises:
        ProfileError: there is no table, or its error is too large.
        SpaceError: nothing in the space satisfies the constraints.
    """
    study, plan = context.study, context.plan
    needing = needing_tables(plan)
    tables = {
        scenario: table_for(study, scenario, context.progress, address=context.workers.address)
        for scenario in needing
    }
    model = CostModel.of(plan.scenarios, tables)
    if tables:
        require_satisfiable(study.space, parsed_constraints(plan), model)
    return model


@steps.add
class Profile(Step):
    """Wanted where latency is traded off or bounded; a given table is checked rather than measured."""

    name = "profile"

    def wanted(self, plan: Plan) -> bool:
        """Whether an objective or a constraint needs a table."""
        return bool(needing_tables(plan))

    def done(self, context: Context) -> bool:
        """Whether all tables are on record."""
        recorded = context.study.facts.get(TABLES, {})
        return all(scenario.name in recorded for scenario in needing_tables(context.plan))

    def run(self, context: Context) -> None:
        """Measure the tables that are not given, and put their errors on record."""
        cost_model(context)
