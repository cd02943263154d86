"""Studies are created, or opened to be continued; what would end one later is refused before it is stored."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from evaluators.reading import told_while_reading
from foundation.errors import NasError, SettingError, UnknownName
from foundation.settings import changed
from foundation.text import count
from foundation.wording import argument
from hw_profiles.runtimes.base import check_scenario, runtime_of
from hw_profiles.timing.timers import check_device
from nas.default_paths import DEFAULT_STORE
from nas.engines.base import engines, make_engine
from nas.objectives.base import CostModel, Objective, ObjectiveFunction, objectives
from nas.schedulers.base import check_scheduler
from nas.serving.figures import FIGURES, check_served
from nas.store import Store, StudyRecord
from nas.store.study_paths import check_place, study_folder
from nas.strategies.base import make_strategy, strategies
from nas.study.baselines import RECORD as BASELINES
from nas.study.baselines import described_baselines
from nas.study.constraints import parsed_constraints
from nas.study.evaluators import check_evaluator, check_parent, device_of, with_supernet
from nas.study.forecast import of_plan
from nas.study.modified import check_then
from nas.study.objective_records import OBJECTIVES, described_objectives
from nas.study.own_blocks import check_own_blocks
from nas.study.plan import SCENARIO_MARK, Plan
from nas.study.plan_objectives import (
    goals_of,
    is_decoder_space,
    scored_names,
    under_all_scenarios,
    with_own_bounds,
    zero_cost_names,
)
from nas.study.satisfiable import require_satisfiable
from nas.study.seeds import RECORD as SEEDS
from nas.study.seeds import described_seeds
from nas.study.source import FOLDER, Source
from nas.study.source_keeping import is_other_source, kept_source
from nas.study.study import Study
from nas.study.task import make_tasks, probed_task, with_vocab_of_data
from nas.study.task_settings import with_task_settings
from nas.study.trial import TrialState
from nas.study.unread import require_read
from nas.tables.study_tables import check_tables, scenarios_to_time
from search_spaces.language.choices import OneOf
from search_spaces.language.own_kinds import places_of
from search_spaces.language.serialization import to_json
from search_spaces.language.space import Space
from search_spaces.language.stand_ins import defaults_of
from search_spaces.network.size_limits import check_size
from search_spaces.network.vocabulary import with_vocab

FRUITLESS = {TrialState.FAILED, TrialState.ILLEGAL, TrialState.INFEASIBLE}
"""States of trials without a score."""


def create_study(
    space: Space,
    plan: Plan,
    *,
    name: str,
    store: str | Path = DEFAULT_STORE,
    functions: Mapping[str, ObjectiveFunction] | None = None,
    source: Source | None = None,
    given: Collection[str] = (),
    yes: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Study:
    """A new study, or the one of this name if it has the same space and settings (trials may grow).

    A study of this name in which nothing was tried or learned is replaced. Lines worth reading go to `say`.
    A new study gets a copy of the `source` of its space; one that is continued has its own. Settings of the
    plan that were `given`, by name, must count for something.

    Raises:
        StoreError: the name is taken by a study of another space.
        SettingError: a setting makes no sense, or differs from those the study was started with; or the
            source does.
        ConsentNeeded: it would take years, or more memory than there is; not asked for with `yes`.
        SpaceError: nothing in the space satisfies the constraints.
        DataError: the corpus cannot be used.
    """
    asked, plan = plan, replace(plan, recipe=plan.recipe.on(plan.train_on))  # what is recorded says it itself
    plan = with_task_settings(with_supernet(space, with_own_bounds(under_all_scenarios(plan))))
    check_place(store, name)
    with told_while_reading(say):
        plan = with_vocab_of_data(plan)
        space = with_vocab(space, plan.vocab)
        check_plan(space, plan, functions or {}, yes=yes or _agreed_before(plan, name, store))
    require_read(asked, given)
    about, baselines = _about(space), described_baselines(space, plan, _known(name, store, BASELINES, {}))
    seeds = _seeds(space, plan, name, store, say)
    opened = Store(store)
    _replace_untouched(opened, name, space, plan, source, say=say)
    config: dict[str, Any] = {"plan": plan.to_plain(), "space": about, OBJECTIVES: described_objectives(plan)}
    config[BASELINES] = baselines
    if seeds:
        config[SEEDS] = seeds
    with kept_source(opened, name, source) as kept:
        record = opened.create_study(
            name,
            space_digest=space.digest,
            space_json=to_json(space.root),
            config={**config, **({"source": kept.to_plain()} if kept else {})},
        )
    study = Study(opened, record, space)
    study.plan.require_same(plan)
    if (grown := study.plan.continued_by(plan)) != study.plan:
        config = {**record.config, "plan": grown.to_plain(), BASELINES: baselines}
        opened.update_config(record.id, config)
        study = Study(opened, opened.study(name), space)
    if space.size() < study.plan.trials:
        say(f"the space has only {count(space.size(), 'architecture')}, fewer than trials are asked for")
    elif remark := _remark(study.plan):
        say(remark)
    return study


def _remark(plan: Plan) -> str:
    """What a user should know of the strategy that is asked; empty where that is nothing."""
    if not engines[plan.engine].asks_strategy:
        return ""
    kind = strategies[plan.strategy]
    return kind.remark(kind.settings_kind.from_plain(plan.settings), plan.trials)


def check_plan(
    space: Space, plan: Plan, functions: Mapping[str, ObjectiveFunction], *, yes: bool = False
) -> None:
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
    registered += [
        *(constraint.name for constraint in constraints),
        *scored_names(plan),
        *zero_cost_names(plan),
    ]
    _check_fit(space, plan, [objectives[name] for name in registered])
    check_evaluator(plan.evaluator)
    device_of(plan)
    for scenario in scenarios_to_time(plan) if plan.time_on is None else ():
        check_device(scenario)
        runtime_of(scenario).check_installed()
    _check_measured(plan)
    engine = make_engine(plan)
    engine.check(space, plan)
    if engine.asks_strategy:
        make_strategy(plan.strategy, space, goals_of(plan), seed=plan.seed, settings=plan.settings)
    check_scheduler(plan)
    check_then(space, plan)
    tasks = make_tasks(plan)
    check_parent(space, plan, tasks)
    for task in tasks.values():
        task.check_vocabulary(space)
    if zero_cost_names(plan):
        probed_task(plan).check_vocabulary(space)
    of_plan(space, plan, list(tasks.values()), engine).require_consent(yes)
    space.require_allowed()
    require_satisfiable(space, constraints, CostModel.of(plan.scenarios))


def _check_measured(plan: Plan) -> None:
    if "serving" in plan.measure and not any(scenario.arrivals for scenario in plan.scenarios):
        raise SettingError(
            f"{argument('measure', 'serving')} needs requests to serve: name a scenario with arrivals,"
            " such as cpu,arrivals=4/s"
        )


def _check_fit(space: Space, plan: Plan, registered: Sequence[Objective]) -> None:
    """The library's own objectives are about decoders, and those of a scenario about one of the study's."""
    cost_model, decoders = CostModel.of(plan.scenarios), is_decoder_space(space)
    for objective in registered:
        if (objective.of_decoders or objective.needs_table) and not decoders:
            raise SettingError(
                f"{objective.name} needs a space of Decoder, and this is one of {_root_kind(space)}:"
                f" {_own_objectives()}"
            )
        where = cost_model.under(objective.scenario) if objective.scenario else cost_model
        if objective.name.partition(SCENARIO_MARK)[0] in FIGURES:
            check_served(where.scenario)
            if plan.roofline is not None or plan.time_on is not None:
                raise SettingError(f"{objective.name} needs a latency table that is measured on this machine")
    check_tables(plan)


def _own_objectives() -> str:
    """How a space of a user's own classes is searched, with the objectives that were declared."""
    own = sorted(name for name, objective in objectives.items() if not objective.of_decoders)
    if own:
        return f"ask for objectives that were declared for it, {', '.join(own)}"
    return "declare functions of an architecture as its objectives (nas.objective), and ask for those"


def _agreed_before(plan: Plan, name: str, store: str | Path) -> bool:
    """Whether the study was already started with all of this, and so with consent to what it takes."""
    try:
        with Store(store, read_only=True) as opened:
            recorded = Plan.from_plain(opened.study(name).config["plan"])
    except (NasError, KeyError):  # there is no such study yet; what is damaged is reported on opening
        return False
    return not changed(recorded, plan) and recorded.continued_by(plan) == recorded


Kept = TypeVar("Kept")


def _known(name: str, store: str | Path, part: str, default: Kept) -> Kept:
    """A part of the record of the study of this name, whose sources may be gone; else the default."""
    try:
        with Store(store, read_only=True) as opened:
            known = opened.study(name).config.get(part, default)
    except NasError:
        return default
    return known if isinstance(known, type(default)) else default


def _seeds(
    space: Space, plan: Plan, name: str, store: str | Path, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """What a study begins with; one that is on record began already."""
    if not plan.seed_from:
        return []
    if not engines[plan.engine].asks_strategy:
        raise SettingError(
            f"engine {plan.engine} proposes by itself: leave out {argument('seed_from', plan.seed_from[0])}"
        )
    if twice := next((source for source in plan.seed_from if plan.seed_from.count(source) > 1), None):
        raise SettingError(f"{argument('seed_from', twice)} is given twice")
    began = _known(name, store, "plan", dict[str, Any]()).get("seed_from") == list(plan.seed_from)
    known = _known(name, store, SEEDS, list[dict[str, Any]]()) if began else []
    return known or described_seeds(space, plan, store, say)


def _replace_untouched(
    opened: Store,
    name: str,
    space: Space,
    plan: Plan,
    source: Source | None,
    *,
    say: Callable[[str], None],
) -> None:
    """Forget the study of this name where it is another one, and nothing was tried or learned in it.

    What failed under a source that was mended since was not tried.
    """
    try:
        record = opened.study(name)
    except UnknownName:
        return
    folder = study_folder(opened.url, name)
    learned = any(folder.rglob("*.safetensors"))
    before, counts = record.config.get("source"), opened.counts(record, None)
    edited = is_other_source(before, source)
    failed = bool(counts) and edited and before is not None and set(counts) <= FRUITLESS
    if learned or (counts and not failed) or (_continues(record, space, plan) and not edited):
        return
    had = "nothing but failures under another source" if failed else "no trials yet"
    say(f"study {name} had {had}: it begins anew, with the settings of now")
    opened.delete_study(name)
    shutil.rmtree(folder / "supernet", ignore_errors=True)  # the description of what was not yet learned
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


def _continues(record: StudyRecord, space: Space, plan: Plan) -> bool:
    """Whether this plan over this space goes on with a study."""
    try:
        recorded = Plan.from_plain(record.config["plan"])
    except (NasError, KeyError):  # what cannot be read cannot be continued
        return False
    return record.space_digest == space.digest and not changed(recorded, plan)


def _root_kind(space: Space) -> str:
    root = space.root
    while isinstance(root, OneOf):
        root = root.options[0]
    return type(root).__name__


def _about(space: Space) -> dict[str, Any]:
    """What a record says of a space beside its tree.

    `classes` are those that are not registered, `defaults` those of classes that are not the library's.
    """
    about = {"name": space.name, "size": str(space.size())}
    more = {"classes": places_of(space.root), "defaults": defaults_of(space.root)}
    return {**about, **{name: told for name, told in more.items() if told}}
