"""From a space to a front: the phases of a study, each of which can be stopped and taken up again.

    study = nas.search(space, name="first", objectives=["bits_per_byte", "decode_ms"], trials=200)

1. the corpus is cached; 2. a latency table of the blocks is measured; 3. the supernet is trained; 4. the
strategy searches; 5. the members of the front are extracted and timed; 6. finalists are trained from scratch.
What a phase made is kept in the study's folder and its record, and is not made twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluators.scoring.base import Evaluator
from evaluators.supernet.folder import read_training
from evaluators.supernet.training import FromSupernet
from evaluators.tasks.base import Task
from foundation.errors import SettingError
from nas.driver import Search, run
from nas.engines.base import Prepared, Setup, make_engine, told_engine
from nas.executors.base import Executor, FunctionScorer, Scorer
from nas.executors.local import InProcess
from nas.objectives.base import AT, Bench, Objective, Predictor, objectives
from nas.progress import Progress, default_progress
from nas.steps.finalists import choose_finalists, halve, runs_of
from nas.steps.measure import measure_front
from nas.store import Store
from nas.strategies.base import Strategy, make_strategy
from nas.study.constraints import Constraint, require_satisfiable
from nas.study.evaluation import (
    EvaluatorScorer,
    check_evaluator,
    device_of,
    fidelity,
    scratch_evaluator,
    supernet_evaluator,
    with_supernet,
)
from nas.study.export import best_weights
from nas.study.plan import Plan
from nas.study.scoring import PREPARED, add_fact
from nas.study.study import DEFAULT_STORE, Study
from nas.study.task import make_task, prepare_task, quality_name, quality_of
from nas.study.trial import Trial
from nas.tables.study_tables import check_tables, table_for
from search_spaces.language.genotype import Genotype
from search_spaces.language.serialization import to_json
from search_spaces.language.space import Space, as_space
from search_spaces.network.decoder import Decoder
from search_spaces.scenario import Scenario

Function = Callable[[Any], float]


@dataclass(frozen=True)
class Workers:
    """Where candidates are scored: in this process (`count=0`), or by Ray actors here or at `address`."""

    count: int = 0
    address: str | None = None
    batch: int = 1
    threads: int = 1
    gpus: float = 0.0
    task_seconds: float | None = None

    def check(self, on: str | None = None) -> None:
        """Raise `SettingError` at once where a cluster does not answer, or lacks the device that is named."""
        if self.address:
            from nas.executors.ray import connect

            connect(self.address, self.count)
        if on is not None:
            from nas.executors.devices import require_device

            require_device(on, self.address)

    def executor(self, scorers: Mapping[str, Scorer]) -> Executor:
        """An executor that holds these scorers."""
        if not self.count and not self.address:
            return InProcess(scorers)
        from nas.executors.ray import RayPool  # Ray takes seconds to import, and most laptops do without

        return RayPool(
            scorers,
            workers=self.count or 1,
            address=self.address,
            batch=self.batch,
            threads=self.threads,
            gpus=self.gpus,
            task_seconds=self.task_seconds,
        )


@dataclass(frozen=True, kw_only=True)
class Session:
    """One run of a study: what does not belong to its record."""

    study: Study
    functions: Mapping[str, Function] = field(default_factory=dict)
    workers: Workers = field(default_factory=Workers)
    progress: Progress = field(default_factory=Progress)
    picks: tuple[Genotype, ...] = ()

    @property
    def plan(self) -> Plan:
        """The study's settings."""
        return self.study.plan


def search(
    space: Space | Any,
    *,
    name: str,
    objectives: Sequence[str | Function] = Plan.objectives,
    store: str | Path = DEFAULT_STORE,
    workers: int | Workers = 0,
    progress: Progress | None = None,
    **settings: Any,
) -> Study:
    """Search `space`; a study of this name over the same space is continued.

    `objectives` are names (see `nas objectives`) or functions of the architecture that return a number to be
    minimised. `settings` are fields of `nas.Plan`: constraints, trials, strategy, evaluator, steps, ...

    Raises:
        StoreError: the name is taken by a study of another space.
        SettingError: a setting makes no sense, or differs from those the study was started with.
        SpaceError: nothing in the space satisfies the constraints.
        DataError: the corpus cannot be used.
    """
    functions = {o.__name__: o for o in objectives if callable(o)}
    names = [o.__name__ if callable(o) else o for o in objectives]
    plan = Plan.from_json({"objectives": names, **_plain(settings)})
    pool = workers if isinstance(workers, Workers) else Workers(workers)
    pool.check(plan.on)
    study = create_study(as_space(space), plan, name=name, store=store, functions=functions)
    session = Session(study=study, functions=functions, workers=pool, progress=progress or default_progress())
    return run_session(session)


def create_study(
    space: Space,
    plan: Plan,
    *,
    name: str,
    store: str | Path = DEFAULT_STORE,
    functions: Mapping[str, Function] | None = None,
) -> Study:
    """A new study, or the one of this name if it has the same space and settings (trials may grow)."""
    plan = with_supernet(space, under_all_scenarios(plan))
    check_plan(space, plan, functions or {})
    opened = Store(str(store))
    record = opened.create_study(
        name,
        space_digest=space.digest,
        space_json=to_json(space.root),
        config={"plan": plan.to_json(), "space": {"name": space.name, "size": str(space.size())}},
    )
    study = Study(opened, record, space)
    study.plan.require_same(plan)
    if (grown := study.plan.going_on_as(plan)) != study.plan:
        config = {**record.config, "plan": grown.to_json()}
        opened.update_config(record.id, config)
        study = Study(opened, opened.study(name), space)
    return study


def under_all_scenarios(plan: Plan) -> Plan:
    """The plan with what differs between scenarios asked under each of them, where it has several.

    `decode_ms` becomes `decode_ms@chat` and `decode_ms@batch`; so do constraints.
    """
    if not plan.also:
        return plan

    def names(name: str) -> list[str]:
        if AT in name or name not in objectives or not objectives[name].per_scenario:
            return [name]
        return [f"{name}{AT}{scenario.name}" for scenario in plan.scenarios]

    constraints = []
    for text in plan.constraints:
        name = Constraint.parse(text).name
        constraints += [text.replace(name, full, 1) for full in names(name)]
    asked = dict.fromkeys(full for name in plan.objectives for full in names(name))
    return replace(plan, objectives=tuple(asked), constraints=tuple(constraints))


def bench_of(plan: Plan) -> Bench:
    """The scenarios of a plan, without tables."""
    others = {scenario.name: Bench(scenario) for scenario in plan.scenarios} if plan.also else {}
    return Bench(plan.scenario, others=others)


def check_plan(space: Space, plan: Plan, functions: Mapping[str, Function]) -> None:
    """Raise at once what would otherwise end a search after minutes."""
    for objective in plan.objectives:
        if objective not in functions:
            objectives_named(objective)
        elif objective in objectives:
            raise SettingError(f"{objective} is the name of a known objective: rename your function")
    constraints = tuple(map(Constraint.parse, plan.constraints))
    _check_fit(space, plan, [*plan.objectives, *(constraint.name for constraint in constraints)])
    check_evaluator(plan.evaluator)
    device_of(plan)
    make_engine(plan).check(space, plan)
    require_satisfiable(space, constraints, bench_of(plan))
    if quality_of(plan):
        make_task(plan)


def _check_fit(space: Space, plan: Plan, names: Sequence[str]) -> None:
    """Known objectives are about language models, and those that are predicted about the table's blocks."""
    for name in names:
        if name in objectives and not isinstance(_first(space), Decoder):
            raise SettingError(f"{name} needs a space of Decoder")
        if name in objectives and objectives[name].scenario:
            bench_of(plan).under(objectives[name].scenario)
    check_tables(plan)


def objectives_named(name: str) -> Objective:
    """The registered objective of this name."""
    return objectives[name]


def run_session(session: Session) -> Study:
    """All phases of a study, from where it stands."""
    session.study.folder.mkdir(parents=True, exist_ok=True)
    task = prepare_task(session.study) if quality_of(session.plan) else None
    bench = prepare_bench(session)
    run_search(session, bench, task)
    if task is not None:
        measure_front(
            session.study,
            lambda study, trial: best_weights(study, trial)[0],
            session.progress,
            address=session.workers.address,
        )
        run_finalists(session, task)
    return session.study


def prepare_bench(session: Session) -> Bench:
    """The scenarios, and the latency tables that an objective or a constraint wants."""
    plan, bench = session.plan, bench_of(session.plan)
    wanted = {what.scenario for what in _asked(plan) if what.needs_table}
    if not wanted:
        return bench
    if bench.others:
        others = {
            name: replace(one, table=_table(session, one.scenario)) if name in wanted else one
            for name, one in bench.others.items()
        }
        bench = replace(bench, others=others)
    else:
        bench = replace(bench, table=_table(session, plan.scenario))
    require_satisfiable(session.study.space, tuple(map(Constraint.parse, plan.constraints)), bench)
    return bench


def _table(session: Session, scenario: Scenario) -> Predictor:
    return table_for(session.study, scenario, session.progress, address=session.workers.address)


def _asked(plan: Plan) -> list[Objective]:
    """The known objectives that a plan trades off or bounds."""
    names = [*plan.objectives, *(Constraint.parse(text).name for text in plan.constraints)]
    return [objectives[name] for name in dict.fromkeys(names) if name in objectives]


def run_search(session: Session, bench: Bench, task: Task | None) -> None:
    """Train what the evaluator needs, then let the strategy search."""
    study, plan = session.study, session.plan
    finished = sum(trial.state.value in ("complete", "failed") for trial in study.trials())
    if finished >= plan.trials:
        return
    evaluator = trained_evaluator(session, task) if task is not None else None
    prepared = prepare_engine(session, bench, task, evaluator)
    scorers: dict[str, Scorer] = {n: FunctionScorer(f) for n, f in session.functions.items()}
    if evaluator is not None:
        scorers[quality_name(plan)] = EvaluatorScorer(prepared.evaluator or evaluator)
    with (
        session.workers.executor(scorers) as executor,
        session.progress.phase(f"searching by {told_engine(plan)}", plan.trials) as phase,
    ):
        count = finished

        def on_trial(trial: Trial) -> None:
            nonlocal count
            count += trial.state.value in ("complete", "failed")
            phase.update(count, _news(trial, plan.objectives[0]))

        run(search_of(study, executor, prepared.strategy, bench, on_trial), plan.trials)


def prepare_engine(
    session: Session, bench: Bench, task: Task | None, evaluator: Evaluator | None
) -> Prepared:
    """What the plan's engine proposes by, once it has done its work."""
    study, plan = session.study, session.plan
    setup = Setup(
        space=study.space,
        plan=plan,
        goals=goals_of(plan),
        bench=bench,
        folder=study.folder / plan.engine,
        quality=quality_of(plan),
        task=task,
        evaluator=evaluator if isinstance(evaluator, FromSupernet) else None,
        progress=session.progress,
        note=lambda name, fact: add_fact(study, name, fact),
    )
    began = time.monotonic()
    prepared = make_engine(plan).prepare(setup)
    if PREPARED not in study.facts:  # a study that goes on finds the work done in its folder
        add_fact(study, PREPARED, {"seconds": round(time.monotonic() - began, 3)})
    return prepared


def search_of(
    study: Study,
    executor: Executor,
    strategy: Strategy | None = None,
    bench: Bench | None = None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> Search:
    """What the driver's loop needs, from the plan of a study; by default its strategy proposes."""
    plan = study.plan
    bench = bench or bench_of(plan)
    strategy = strategy or make_strategy(
        plan.strategy, study.space, goals_of(plan), seed=plan.seed, settings=plan.strategy_settings
    )
    return Search(
        store=study.store,
        study_id=study.record.id,
        space=study.space,
        strategy=strategy,
        executor=executor,
        fidelity=fidelity(plan),
        seed=plan.seed,
        bench=bench,
        cheap=_cheap(study.space, plan, bench),
        constraints=tuple(map(Constraint.parse, plan.constraints)),
        on_trial=on_trial,
    )


def trained_evaluator(session: Session, task: Task) -> Evaluator:
    """The plan's evaluator; the supernet is trained first, or taken up where its training stopped."""
    study, plan = session.study, session.plan
    if plan.evaluator == "scratch":
        return scratch_evaluator(plan, task, study.folder)
    evaluator = supernet_evaluator(study.space, plan, task, study.folder)
    if plan.supernet is not None and "supernet" not in study.facts:
        add_fact(study, "supernet", {**read_training(plan.supernet), "folder": plan.supernet})
    elif "supernet" not in study.facts:
        with session.progress.phase("training the supernet", plan.steps) as phase:
            fact = evaluator.train(lambda step, loss: phase.update(step, f"largest {loss:.3f} {task.unit}"))
        add_fact(study, "supernet", fact)
    return evaluator


def run_finalists(session: Session, task: Task) -> None:
    """Train finalists from scratch by successive halving."""
    study, plan = session.study, session.plan
    if not plan.finalists or not study.front():
        return
    quality, finalists = quality_name(plan), choose_finalists(study, plan.finalists, session.picks)
    scorer = EvaluatorScorer(scratch_evaluator(plan, task, study.folder))
    total, done = runs_of(len(finalists), plan.rungs, plan.keep), 0
    with (
        session.workers.executor({quality: scorer}) as executor,
        session.progress.phase("training finalists from scratch", total) as phase,
    ):

        def on_trial(trial: Trial) -> None:
            nonlocal done
            done += 1
            phase.update(done, f"{trial.fidelity.steps} steps: {_news(trial, quality)}")

        halve(study, finalists, executor, picks=session.picks, on_trial=on_trial)


def _cheap(space: Space, plan: Plan, bench: Bench) -> tuple[Objective, ...]:
    """The cheap objectives to record: all that apply to a decoder, else those that are asked for."""
    if not isinstance(_first(space), Decoder):
        return tuple(objectives[name] for name in plan.objectives if name in objectives)
    asked = {objective.name: objective for objective in _asked(plan)}
    for objective in objectives.values():
        several = bench.others if objective.per_scenario else {}
        if objective.cheap and not objective.on_request:
            under = [objective.under(name) for name in several] or [objective]
            asked |= {one.name: one for one in under}
    return tuple(one for one in asked.values() if one.cheap and bench.ready(one))


def _first(space: Space) -> Any:
    """Some architecture of the space, allowed or not."""
    return space.draw(lambda path, labels: labels[0])[1]


def goals_of(plan: Plan) -> list[tuple[str, bool]]:
    """Per objective, its name and whether it is maximised."""
    return [(name, name in objectives and objectives[name].maximise) for name in plan.objectives]


def _news(trial: Trial, name: str) -> str:
    if trial.reason:
        return f"{trial.digest} {trial.state.value}: {trial.reason}"
    value = trial.values.get(name)
    return f"{trial.digest} {name} {value.value:.4g}" if value else trial.digest


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, (list, tuple)) else value for name, value in settings.items()
    }
