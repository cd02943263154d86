"""The fourth step: the engine gets ready, its strategy proposes candidates, and they are scored as trials."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from evaluators.scoring.base import Evaluator
from evaluators.scoring.scratch import FromScratch
from evaluators.supernet.evaluator import FromSupernet
from nas.driver import every_architecture_tried, run
from nas.engines.base import Prepared, Setup, engine_title, make_engine
from nas.executors.base import Executor, FunctionScorer, Scorer
from nas.objectives.base import CostModel
from nas.objectives.zero_cost import ZeroCostScorer
from nas.schedulers.base import PointOf, make_scheduler
from nas.search_setup import Search
from nas.steps.base import Context, Step, steps
from nas.steps.corpus import opened_task, opened_tasks
from nas.steps.profile import cost_model
from nas.steps.train import evaluator, evaluators
from nas.strategies.base import Strategy, make_strategy
from nas.study.constraints import parsed_constraints
from nas.study.evaluators import fidelity, gated, scorers_of
from nas.study.facts import PREPARED, add_fact
from nas.study.plan_objectives import (
    goals_of,
    quality_of,
    recorded_costs,
    scored_functions,
    zero_cost_names,
)
from nas.study.rungs import note_rungs
from nas.study.seeds import seeds_of
from nas.study.study import Study
from nas.study.task import probed_task
from nas.study.trial import Trial, TrialState


@steps.add
class SearchByTrials(Step):
    """Done when as many candidates as the plan asks for were scored."""

    name = "search"
    needs = ("corpus", "profile", "train", "parent_baselines")

    def done(self, context: Context) -> bool:
        """Whether there are enough trials, not counting those that broke a constraint, or no more to try.

        And whether the scheduler has trained those further that it would.
        """
        study, trials = context.study, context.study.trials()
        enough = _count(trials) >= context.plan.trials or every_architecture_tried(study.space, trials)
        return enough and not _is_owed(study, trials)

    def run(self, context: Context) -> None:
        """Let the engine propose, and score its candidates, going on after those on record.

        Raises:
            SpaceError: nothing satisfies the constraints.
            EvaluationFailed: the evaluator fails again and again.
        """
        study, plan = context.study, context.plan
        prepared = prepare_engine(context)
        scorers = scorers_of_search(context, prepared.evaluator)
        with (
            context.workers.executor(scorers, context.progress.say) as executor,
            context.progress.bar(f"searching by {engine_title(plan)}", plan.trials) as bar,
        ):
            count = _count(study.trials())

            def on_trial(trial: Trial) -> None:
                nonlocal count
                count += trial.counts
                bar.update(count, trial.summary(plan.objectives[0]))

            search = search_of(
                study,
                executor,
                strategy=prepared.strategy,
                cost_model=cost_model(context),
                on_trial=on_trial,
                on_dropped=_forgetter(context),
            )
            run(search, plan.trials)
        note_rungs(study)
        if count < plan.trials:
            size = study.space.size()
            context.progress.say(
                f"every architecture of {study.space.name} was tried, {size:,} in all:"
                f" the search ends after {count:,} trials, not {plan.trials:,}"
            )


def scorers_of_search(context: Context, chosen: Evaluator | None = None) -> dict[str, Scorer]:
    """What scores the candidates of a search, the cheapest first; `chosen` in the place of its evaluator."""
    plan, quality, scorers = context.plan, quality_of(context.plan), scorers_without_training(context)
    if quality is None:
        return scorers
    by_score = {**evaluators(context), **({quality: chosen} if chosen else {})}
    return scorers | gated(plan, scorers_of(plan, by_score, opened_tasks(context)))


def scorers_without_training(context: Context) -> dict[str, Scorer]:
    """What scores candidates that need not learn for it: functions of a user's own, and zero-cost scores."""
    functions = {**scored_functions(context.plan), **context.functions}
    scorers: dict[str, Scorer] = {name: FunctionScorer(f) for name, f in functions.items()}
    if names := zero_cost_names(context.plan):
        task = probed_task(context.plan)
        scorers |= {name: ZeroCostScorer(name, task) for name in names}
    return scorers


def prepare_engine(context: Context) -> Prepared:
    """What the plan's engine proposes by, once it has done its work."""
    study, plan, quality = context.study, context.plan, quality_of(context.plan)
    scoring = evaluator(context) if quality is not None else None
    setup = Setup(
        space=study.space,
        plan=plan,
        goals=goals_of(plan),
        cost_model=cost_model(context),
        folder=study.folder / plan.engine,
        quality=quality,
        task=opened_task(context) if quality is not None else None,
        evaluator=scoring if isinstance(scoring, FromSupernet) else None,
        progress=context.progress,
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
    *,
    strategy: Strategy | None = None,
    cost_model: CostModel | None = None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    on_dropped: Callable[[Trial], None] = lambda trial: None,
) -> Search:
    """What the driver's loop needs, from the plan of a study; by default its strategy proposes."""
    plan = study.plan
    cost_model = cost_model or CostModel.of(plan.scenarios)
    strategy = strategy or make_strategy(
        plan.strategy, study.space, goals_of(plan), seed=plan.seed, settings=plan.settings
    )
    strategy.begin_with(seeds_of(study))
    return Search(
        store=study.store,
        study_id=study.record.id,
        space=study.space,
        strategy=strategy,
        executor=executor,
        fidelity=fidelity(plan),
        seed=plan.seed,
        scheduler=make_scheduler(plan, point_of(study), study.space.size()),
        cost_model=cost_model,
        cheap=recorded_costs(study.space, plan, cost_model),
        constraints=parsed_constraints(plan),
        on_trial=on_trial,
        recorded=study.trials,
        on_dropped=on_dropped,
    )


def point_of(study: Study) -> PointOf:
    """The objectives of a trial of a study, turned so that smaller is better."""
    goals = goals_of(study.plan)
    return lambda trial: trial.losses(goals)


def _is_owed(study: Study, trials: Iterable[Trial]) -> bool:
    """Whether some candidate is to be trained further."""
    scheduler = make_scheduler(study.plan, point_of(study), study.space.size())
    for trial in trials:
        scheduler.tell(trial)
        if trial.goes_on and trial.state is TrialState.RUNNING:
            return True
    return scheduler.promotion() is not None


def _forgetter(context: Context) -> Callable[[Trial], None]:
    """Removes the checkpoints of a trial that will not be trained further."""
    if context.plan.scheduler == "full" or quality_of(context.plan) is None:
        return lambda trial: None
    scoring = [each for each in evaluators(context).values() if isinstance(each, FromScratch)]

    def forget(trial: Trial) -> None:
        for each in scoring:
            each.forget(context.study.spec(trial), trial.fidelity.steps, trial.seed)

    return forget


def _count(trials: Iterable[Trial]) -> int:
    return sum(trial.counts for trial in trials)
