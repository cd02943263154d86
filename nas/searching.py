"""From a space to a front: the phases of a study, each of which can be stopped and taken up again.

    study = nas.search(space, name="first", objectives=["bits_per_byte", "decode_ms"], trials=200)

1. the corpus is cached; 2. a latency table of the blocks is measured; 3. the supernet is trained; 4. the
strategy searches; 5. the members of the front are extracted and timed; 6. finalists are trained from scratch.
What a phase made is kept in the study's folder and its record, and is not made twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluators.corpus import Corpus, load_corpus
from evaluators.tasks.language import ByteLanguageModelling
from nas.constraints import Constraint, require_satisfiable
from nas.driver import Search, run
from nas.executors.base import Executor, FunctionScorer, Scorer
from nas.executors.local import InProcess
from nas.finalists import choose_finalists, halve, runs_of
from nas.measured import measure_front
from nas.objectives.base import AT, Bench, Objective, objectives
from nas.plan import Plan
from nas.progress import Progress, default_progress
from nas.quality import (
    QUALITY,
    EvaluatorScorer,
    check_evaluator,
    fidelity,
    scratch_evaluator,
    supernet_evaluator,
)
from nas.stages import add_fact
from nas.store import Store
from nas.strategies.base import make_strategy
from nas.study import DEFAULT_STORE, Study
from nas.tables import check_tables, table_for
from nas.takehome import best_weights
from nas.trial import Trial
from search_spaces.decoder import Decoder
from search_spaces.errors import SettingError
from search_spaces.genotype import Genotype
from search_spaces.serialise import to_json
from search_spaces.space import Space, as_space

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

    def check(self) -> None:
        """Raise `SettingError` at once where a cluster that is named does not answer."""
        if self.address:
            from nas.executors.ray import connect

            connect(self.address, self.count)

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
    pool.check()
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
    plan = under_all_scenarios(plan)
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
    make_strategy(plan.strategy, space, _goals(plan), seed=plan.seed, settings=plan.strategy_settings)
    require_satisfiable(space, constraints, bench_of(plan))
    if QUALITY in plan.objectives:
        task = _task_on(load_corpus(plan.data), plan)
        task.train_batch(0, plan.seed, 1)  # both raise where the text is too short for such windows
        task.validation()


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
    task = prepare_task(session) if QUALITY in session.plan.objectives else None
    bench = prepare_bench(session)
    run_search(session, bench, task)
    if task is not None:
        measure_front(session.study, lambda study, trial: best_weights(study, trial)[0], session.progress)
        run_finalists(session, task)
    return session.study


def prepare_task(session: Session) -> ByteLanguageModelling:
    """The corpus, cached and on record; the same text as before, or an error."""
    study, plan = session.study, session.plan
    corpus = load_corpus(plan.data)
    known = study.facts.get("corpus")
    if known and known["digest"] != corpus.digest:
        raise SettingError(
            f"study {study.name} was started on the corpus {known['digest']}, but {corpus.name} is now"
            f" {corpus.digest}: scores of two corpora cannot be compared; choose another name"
        )
    if not known:
        add_fact(study, "corpus", _corpus_fact(corpus))
    return _task_on(corpus, plan)


def _task_on(corpus: Corpus, plan: Plan) -> ByteLanguageModelling:
    return ByteLanguageModelling(corpus.folder, length=plan.length, windows=plan.windows)


def prepare_bench(session: Session) -> Bench:
    """The scenarios, and the latency tables that an objective or a constraint wants."""
    plan, bench = session.plan, bench_of(session.plan)
    wanted = {what.scenario for what in _asked(plan) if what.needs_table}
    if not wanted:
        return bench
    if bench.others:
        others = {
            name: replace(one, table=table_for(session.study, one.scenario, session.progress))
            if name in wanted
            else one
            for name, one in bench.others.items()
        }
        bench = replace(bench, others=others)
    else:
        bench = replace(bench, table=table_for(session.study, plan.scenario, session.progress))
    require_satisfiable(session.study.space, tuple(map(Constraint.parse, plan.constraints)), bench)
    return bench


def _asked(plan: Plan) -> list[Objective]:
    """The known objectives that a plan trades off or bounds."""
    names = [*plan.objectives, *(Constraint.parse(text).name for text in plan.constraints)]
    return [objectives[name] for name in dict.fromkeys(names) if name in objectives]


def run_search(session: Session, bench: Bench, task: ByteLanguageModelling | None) -> None:
    """Train what the evaluator needs, then let the strategy search."""
    study, plan = session.study, session.plan
    finished = sum(trial.state.value in ("complete", "failed") for trial in study.trials())
    if finished >= plan.trials:
        return
    scorers: dict[str, Scorer] = {n: FunctionScorer(f) for n, f in session.functions.items()}
    if task is not None:
        scorers[QUALITY] = quality_scorer(session, task)
    with (
        session.workers.executor(scorers) as executor,
        session.progress.phase(f"searching ({plan.strategy})", plan.trials) as phase,
    ):
        count = finished

        def on_trial(trial: Trial) -> None:
            nonlocal count
            count += trial.state.value in ("complete", "failed")
            phase.update(count, _news(trial, plan.objectives[0]))

        run(search_of(study, executor, bench, on_trial), plan.trials)


def search_of(
    study: Study,
    executor: Executor,
    bench: Bench | None = None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> Search:
    """What the driver's loop needs, from the plan of a study."""
    plan = study.plan
    bench = bench or bench_of(plan)
    return Search(
        store=study.store,
        study_id=study.record.id,
        space=study.space,
        strategy=make_strategy(
            plan.strategy, study.space, _goals(plan), seed=plan.seed, settings=plan.strategy_settings
        ),
        executor=executor,
        fidelity=fidelity(plan),
        seed=plan.seed,
        bench=bench,
        cheap=_cheap(study.space, plan, bench),
        constraints=tuple(map(Constraint.parse, plan.constraints)),
        on_trial=on_trial,
    )


def quality_scorer(session: Session, task: ByteLanguageModelling) -> Scorer:
    """The plan's evaluator; the supernet is trained first, or taken up where its training stopped."""
    study, plan = session.study, session.plan
    if plan.evaluator == "scratch":
        return EvaluatorScorer(scratch_evaluator(plan, task, study.folder))
    evaluator = supernet_evaluator(study.space, plan, task, study.folder)
    if "supernet" not in study.facts:
        with session.progress.phase("training the supernet", plan.steps) as phase:
            fact = evaluator.train(lambda step, loss: phase.update(step, f"largest {loss:.3f} {task.unit}"))
        add_fact(study, "supernet", fact)
    return EvaluatorScorer(evaluator)


def run_finalists(session: Session, task: ByteLanguageModelling) -> None:
    """Train finalists from scratch by successive halving."""
    study, plan = session.study, session.plan
    if not plan.finalists or not study.front():
        return
    finalists = choose_finalists(study, plan.finalists, session.picks)
    scorer = EvaluatorScorer(scratch_evaluator(plan, task, study.folder))
    total, done = runs_of(len(finalists), plan.rungs, plan.keep), 0
    with (
        session.workers.executor({QUALITY: scorer}) as executor,
        session.progress.phase("training finalists from scratch", total) as phase,
    ):

        def on_trial(trial: Trial) -> None:
            nonlocal done
            done += 1
            phase.update(done, f"{trial.fidelity.steps} steps: {_news(trial, QUALITY)}")

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


def _goals(plan: Plan) -> list[tuple[str, bool]]:
    return [(name, name in objectives and objectives[name].maximise) for name in plan.objectives]


def _news(trial: Trial, name: str) -> str:
    if trial.reason:
        return f"{trial.digest} {trial.state.value}: {trial.reason}"
    value = trial.values.get(name)
    return f"{trial.digest} {name} {value.value:.4g}" if value else trial.digest


def _corpus_fact(corpus: Corpus) -> dict[str, Any]:
    return {
        "name": corpus.name,
        "digest": corpus.digest,
        "train_bytes": corpus.train_bytes,
        "valid_bytes": corpus.valid_bytes,
        "reference": corpus.reference_points(),
    }


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, (list, tuple)) else value for name, value in settings.items()
    }
