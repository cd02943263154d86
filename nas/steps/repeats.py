"""Repeats: the networks of the last rung, and the baselines beside it, are trained again with other seeds.

One training says nothing of the luck of its seed, which may be larger than a gap between two networks. With
several, the error of a gap is that over seeds as well (see `nas.study.baseline_gaps`).
"""

from __future__ import annotations

from nas.steps.base import Context, Step, steps
from nas.steps.scratch_training import training_from_scratch
from nas.study.baselines import Rung, baselines_of, rungs_of
from nas.study.plan import Plan
from nas.study.plan_objectives import quality_of
from nas.study.scoring import score_all
from nas.study.study import Study
from nas.study.trial import TrialState
from search_spaces.language.genotype import Genotype

STAGE = "repeat"


@steps.add
class Repeats(Step):
    """Wanted where the plan asks for several seeds and networks are trained from scratch."""

    name = "repeats"
    needs = ("finalists", "baselines")

    def wanted(self, plan: Plan) -> bool:
        """Whether more than one seed is asked for."""
        alone = plan.finalists > 0 or plan.evaluator == "scratch"
        return plan.final_seeds > 1 and alone and quality_of(plan) is not None

    def done(self, context: Context) -> bool:
        """Whether every one of these networks was trained with every seed."""
        study = context.study
        ended = {
            (t.digest, t.fidelity, t.seed) for t in study.trials(STAGE) if t.state is not TrialState.RUNNING
        }
        rung, networks = repeated(study)
        return rung is None or ended.issuperset(
            (network.digest, rung.fidelity, seed) for network in networks for seed in seeds_of(study.plan)
        )

    def run(self, context: Context) -> None:
        """Train what is left, seed by seed."""
        study, plan = context.study, context.plan
        rung, networks = repeated(study)
        if rung is None:
            return
        title, total = "training with other seeds", len(networks) * len(seeds_of(plan))
        told = "seed {0.seed}".format
        with training_from_scratch(context, title, total, told=told) as (executor, on_trial):
            for seed in seeds_of(plan):
                score_all(
                    study,
                    networks,
                    executor,
                    stage=STAGE,
                    fidelity=rung.fidelity,
                    seed=seed,
                    on_trial=on_trial,
                )


def seeds_of(plan: Plan) -> list[int]:
    """The seeds besides the plan's own."""
    return [plan.seed + i for i in range(1, plan.final_seeds)]


def repeated(study: Study) -> tuple[Rung | None, list[Genotype]]:
    """The last rung, and what is trained again: its members, and the baselines beside it."""
    rungs = rungs_of(study)
    if not rungs:
        return None, []
    members = [trial.genotype for trial in rungs[-1].members]
    return rungs[-1], [*members, *baselines_of(study, rungs[-1])]
