"""Studies are created, or opened to be continued; what would end one after minutes is refused at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from foundation.errors import SettingError
from hw_profiles.runtimes.base import check_scenario
from nas.default_paths import DEFAULT_STORE
from nas.engines.base import make_engine
from nas.objectives.base import CostModel, Objective, ObjectiveFunction, objectives
from nas.store import Store
from nas.store.study_paths import check_place
from nas.study.constraints import parsed_constraints, require_satisfiable
from nas.study.evaluators import check_evaluator, device_of, with_supernet
from nas.study.own_blocks import check_own_blocks
from nas.study.plan import Plan
from nas.study.plan_objectives import is_decoder_space, quality_of, under_all_scenarios
from nas.study.study import Study
from nas.study.task import make_task
from nas.tables.study_tables import check_tables
from search_spaces.language.serialization import to_json
from search_spaces.language.space import Space
from search_spaces.network.size_limits import check_size


def create_study(
    space: Space,
    plan: Plan,
    *,
    name: str,
    store: str | Path = DEFAULT_STORE,
    functions: Mapping[str, ObjectiveFunction] | None = None,
) -> Study:
    """A new study, or the one of this name if it has the same space and settings (trials may grow).

    Raises:
        StoreError: the name is taken by a study of another space.
        SettingError: a setting makes no sense, or differs from those the study was started with.
        SpaceError: nothing in the space satisfies the constraints.
        DataError: the corpus cannot be used.
    """
    plan = with_supernet(space, under_all_scenarios(plan))
    check_plan(space, plan, functions or {})
    check_place(store, name)
    opened = Store(str(store))
    record = opened.create_study(
        name,
        space_digest=space.digest,
        space_json=to_json(space.root),
        config={"plan": plan.to_plain(), "space": {"name": space.name, "size": str(space.size())}},
    )
    study = Study(opened, record, space)
    study.plan.require_same(plan)
    if (grown := study.plan.continued_by(plan)) != study.plan:
        config = {**record.config, "plan": grown.to_plain()}
        opened.update_config(record.id, config)
        study = Study(opened, opened.study(name), space)
    return study


def check_plan(space: Space, plan: Plan, functions: Mapping[str, ObjectiveFunction]) -> None:
    """Raise at once what would otherwise end a search after minutes; see `create_study`."""
    check_size(space.root)
    space.require_sound()
    check_own_blocks(space)
    for scenario in plan.scenarios:
        check_scenario(scenario)
    for name in functions:
        if name in objectives:
            raise SettingError(f"{name} is the name of a known objective: rename your function")
    constraints = parsed_constraints(plan)
    registered = [name for name in plan.objectives if name not in functions]
    registered += [constraint.name for constraint in constraints]
    _check_fit(space, plan, [objectives[name] for name in registered])
    check_evaluator(plan.evaluator)
    device_of(plan)
    make_engine(plan).check(space, plan)
    require_satisfiable(space, constraints, CostModel.of(plan.scenarios))
    if quality_of(plan):
        make_task(plan).check_vocabulary(space)


def _check_fit(space: Space, plan: Plan, registered: Sequence[Objective]) -> None:
    """Registered objectives are about decoders, and those of a scenario about one of the study's."""
    cost_model = CostModel.of(plan.scenarios)
    for objective in registered:
        if not is_decoder_space(space):
            raise SettingError(f"{objective.name} needs a space of Decoder")
        if objective.scenario:
            cost_model.under(objective.scenario)
    check_tables(plan)
