"""`nas.search`: from a space to a front.

    study = nas.search(space, name="first", objectives=["bits_per_byte", "decode_ms"], trials=200)

What a study does, and in which order, are its steps: see `nas.steps`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

from evaluators.training.recipe import Recipe
from foundation.settings import check_flag, describe
from nas.default_paths import DEFAULT_STORE
from nas.executors.workers import Workers
from nas.modifiers.base import Modifier
from nas.objectives.base import Objective, ObjectiveFunction
from nas.plugins import report_writer
from nas.progress import Progress, progress_of
from nas.steps.base import Context, run_steps
from nas.strategies.foreign import require_consent
from nas.study.creation import create_study
from nas.study.open_study import OpenStudy
from nas.study.own_objectives import named_objectives, strategy_name
from nas.study.plan import Plan, plan_of
from nas.study.source import source_of
from nas.study.source_places import in_no_file, program_source
from nas.study.space_files import absolute_source, load_space
from nas.study.user_files import require_no_reading
from search_spaces.language.space import Space, as_space
from search_spaces.scenario import Scenario

F = TypeVar("F", bound=Callable[..., Any])


class PlanSettings(TypedDict, total=False):
    """The fields of a `Plan` as arguments of `search`, for type checkers; a test holds both equal."""

    constraints: Sequence[str]
    scenarios: Sequence[Scenario]
    trials: int
    engine: str
    strategy: str
    settings: Mapping[str, Any]
    seed: int
    seed_from: Sequence[str]
    seeds_first: int
    evaluator: str
    supernet: str | None
    parent: str | None
    train_on: str
    train_steps: int
    scheduler: str
    rungs: Sequence[int]
    train_batch: int
    window: int | None
    validation_windows: int | None
    recipe: Recipe | Mapping[str, Any]
    task_settings: Mapping[str, Any]
    shared_training: bool
    data: str | None
    vocab: int | None
    latency_tables: Sequence[str]
    roofline: str | None
    strict_table: bool
    profile_seconds: float
    time_on: str | None
    measure: Sequence[str]
    zero_cost: Sequence[str]
    finalists: int
    finalist_steps: Sequence[int]
    keep: float
    baselines: Sequence[str]
    final_seeds: int
    then: Sequence[str | Modifier]
    source: str | None


def _taught_by_plan(function: F) -> F:
    """Show the settings of a plan in `help()` and to editors, each with its type, default and meaning."""
    signature = inspect.signature(function, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    shown = [d for d in describe(Plan) if d.name in PlanSettings.__annotations__ and not d.about.hidden]
    settings = [
        inspect.Parameter(d.name, inspect.Parameter.KEYWORD_ONLY, default=d.default, annotation=d.type)
        for d in shown
    ]
    lines = "".join(f"\n        {d.name}: {d.summary}" for d in shown)
    function.__doc__ = f"{inspect.getdoc(function)}\n\nSettings of the plan:{lines}\n"
    function.__signature__ = signature.replace(parameters=[*own, *settings])  # type: ignore[attr-defined]
    return function


@_taught_by_plan
def search(
    space: Space | str | Any,
    *,
    name: str,
    objectives: Sequence[str | Objective | ObjectiveFunction] = Plan.objectives,
    store: str | Path = DEFAULT_STORE,
    workers: int | str | Workers = 0,
    progress: Progress | bool | None = True,
    yes: bool = False,
    **settings: Unpack[PlanSettings],
) -> OpenStudy:
    """Search `space`; a study of this name over the same space is continued.

    `space` may also be what the command line takes: the name of a ready-made space, or `FILE.py[:NAME]`. The
    study then keeps a copy of that file, so that `nas resume` and `nas export` work on it, too. `objectives`
    are names (see `nas objectives`), functions of the architecture that return a number to be minimised, or
    functions that `nas.objective` says more of. The study, with its trials, is in the database `store`. What
    would take over a week, or more memory than there is, is refused with its estimate, unless `yes`.

    `progress` is shown as fits: a bar on a terminal, a line in a notebook, lines now and then in a log. The
    report is then written at the end, and its path told. With `progress=False` nothing is shown, and
    `study.report()` writes it.

    What the space and the objectives are made of belongs to the study: files beside the program are copied,
    and of its own file the definitions, so that `nas resume` and its like can go on with it.

    Raises:
        StoreError: the name is taken by a study of another space.
        SettingError: a setting makes no sense, or differs from those the study was started with.
        ConsentNeeded: it would take over a week, or more memory than there is.
        SpaceError: nothing in the space satisfies the constraints, or its file cannot be run.
        DataError: the corpus cannot be used.
    """
    require_no_reading()
    source, nowhere = None, list[str]()
    if isinstance(space, str):
        named = space
        settings["source"], space, source = absolute_source(named), load_space(named), source_of(named)
    names, functions = named_objectives(objectives)
    if "strategy" in settings:
        settings["strategy"] = strategy_name(settings["strategy"])
    traded = {} if objectives is Plan.objectives else {"objectives": names}
    space = as_space(space)
    plan = plan_of(space, {**traded, **settings})
    pool, shown = Workers.of(workers), progress_of(progress)
    check_flag("yes", yes)
    require_consent(plan.strategy, yes)
    pool.check(plan.time_on, shown.say)
    if source is None:
        source, nowhere = program_source(space, plan, functions)
    written: dict[str, Any] = {"functions": functions, "source": source, "given": settings}
    study = create_study(space, plan, name=name, store=store, **written, yes=yes, say=shown.say)
    if nowhere:
        shown.say(in_no_file(nowhere))
    run_steps(Context(study=study, functions=functions, workers=pool, progress=shown))
    asked = OpenStudy(study.store, study.record, study.space, location=store)
    asked.functions = functions
    if shown.is_shown and report_writer():
        shown.say(f"report: {asked.report()}")
    return asked
