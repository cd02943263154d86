"""Baselines: networks that a sceptic would choose, trained and timed as the finalists were.

Same recipe, same batches in the same order, same validation windows, same scenarios; trials of a stage of
their own. Which sizes stand beside which finalists is told in `nas.study.baselines`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from foundation.errors import ProfileError
from foundation.text import count, duration
from nas.objectives.base import CostModel
from nas.steps.base import Context, Step, steps
from nas.steps.corpus import opened_tasks
from nas.steps.measure import measure_all
from nas.steps.profile import cost_model
from nas.steps.scratch_training import training_from_scratch
from nas.study.baselines import STAGE, Rung, baselines_of, rungs_of, wants_baselines
from nas.study.forecast import of_baselines
from nas.study.measuring import left_to_measure
from nas.study.plan import Plan
from nas.study.plan_objectives import quality_of, recorded_costs
from nas.study.scoring import score_all
from nas.study.study import Study
from nas.study.trial import Trial, TrialState
from search_spaces.language.genotype import Genotype

COUNTED = "params"
"""A cost that is known of every network."""


@steps.add
class Baselines(Step):
    """Wanted where the plan names baselines and networks are trained from scratch."""

    name = "baselines"
    needs = ("finalists",)

    def wanted(self, plan: Plan) -> bool:
        """Whether there is something to hold baselines against."""
        return quality_of(plan) is not None and wants_baselines(plan)

    def done(self, context: Context) -> bool:
        """Whether those beside every rung were trained, and their networks measured."""
        study = context.study
        ended = {(t.digest, t.fidelity) for t in study.trials(STAGE) if t.state is not TrialState.RUNNING}
        wanted = [(genotype.digest, rung.fidelity) for rung, chosen in beside(study) for genotype in chosen]
        trained = trained_baselines(study)
        priced = all(COUNTED in trial.values for trial in trained)  # a kill may come between score and price
        return ended.issuperset(wanted) and priced and not left_to_measure(study, trained)

    def run(self, context: Context) -> None:
        """Train what is left, rung by rung, and measure it."""
        study, plan, todo = context.study, context.plan, beside(context.study)
        total = sum(len(chosen) for _, chosen in todo)
        networks = count(len({genotype for _, chosen in todo for genotype in chosen}), "network")
        took = duration(of_baselines(study.space, plan, list(opened_tasks(context).values())).seconds)
        context.progress.say(f"baselines {', '.join(plan.baselines)}: {networks}, at most about {took}")
        title = "training baselines from scratch"
        with training_from_scratch(context, title, total) as (executor, on_trial):
            for rung, chosen in todo:
                scored = score_all(
                    study, chosen, executor, stage=STAGE, fidelity=rung.fidelity, on_trial=on_trial
                )
                add_costs(study, scored, cost_model(context))
        measure_all(context, trained_baselines(study), what="the baselines")


def beside(study: Study) -> list[tuple[Rung, list[Genotype]]]:
    """Every rung, and the baselines that stand beside it."""
    return [(rung, baselines_of(study, rung)) for rung in rungs_of(study)]


def trained_baselines(study: Study) -> list[Trial]:
    """One trial for each network of a baseline that was trained: that of the longest training."""
    trials = {t.digest: t for t in study.trials(STAGE) if t.state is TrialState.COMPLETE}
    return list(trials.values())


def add_costs(study: Study, trials: Sequence[Trial], model: CostModel) -> None:
    """Keep what is counted or predicted of these networks; a table of the space may not know their blocks."""
    complete = []
    for trial in trials:
        spec, values = study.spec(trial), dict(trial.values)
        for objective in recorded_costs(study.space, study.plan, model):
            if objective.cheap is None or objective.name in values:
                continue
            try:
                values[objective.name] = objective.cheap(spec, model)
            except ProfileError:
                continue
        complete.append(replace(trial, values=values))
    study.store.save(study.record.id, complete)
