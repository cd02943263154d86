"""The last step: finalists, the winners of a front, trained from scratch by successive halving.

The proxy ranks many networks cheaply; the few that matter are trained by themselves. All finalists are
trained to the first rung; a third is promoted to the next, resumed from its checkpoint (Jamieson & Talwalkar
2016, arXiv:1502.07943). Promotion is decided among all objectives, with the quality just measured: those
that no other dominates first, and of these a spread that contains the best. So a front is halved, not only
its end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from nas.executors.base import Executor
from nas.pareto import by_rank_and_spread
from nas.steps.base import Context, Step, steps
from nas.steps.scratch_training import training_from_scratch
from nas.study.plan import Plan
from nas.study.plan_objectives import quality_of
from nas.study.scoring import score_all
from nas.study.study import Study
from nas.study.trial import Fidelity, Trial, TrialState
from search_spaces.language.genotype import Genotype

STAGE = "final"


@steps.add
class Finalists(Step):
    """Wanted where something is trained and the plan asks for finalists."""

    name = "finalists"
    needs = ("measure",)

    def wanted(self, plan: Plan) -> bool:
        """Whether there are to be finalists."""
        return plan.finalists > 0 and quality_of(plan) is not None

    def done(self, context: Context) -> bool:
        """Whether every rung was trained, with the finalists that would be chosen now."""
        study, alive = context.study, _chosen(context)
        recorded = {(trial.digest, trial.fidelity): trial for trial in _ended(study.trials(STAGE))}
        for rung in context.plan.finalist_steps:
            trials = [recorded.get((genotype.digest, _fidelity(rung))) for genotype in alive]
            if None in trials:
                return False
            alive = promoted(study, [trial for trial in trials if trial is not None], context.picks)
        return True

    def run(self, context: Context) -> None:
        """Train what is left of every rung."""
        study, plan, finalists = context.study, context.plan, _chosen(context)
        total = runs_of(len(finalists), plan.finalist_steps, plan.keep)
        title = "training finalists from scratch"
        with training_from_scratch(context, title, total) as (executor, on_trial):
            halve(study, finalists, executor, picks=context.picks, on_trial=on_trial)


def choose_finalists(study: Study, count: int, picks: Sequence[Genotype] = ()) -> list[Genotype]:
    """The user's picks, then members of the front that are spread over it, then those that come next."""
    trials = study.comparable()
    chosen = [trials[i].genotype for i in by_rank_and_spread(study.points(trials), count)]
    return list(dict.fromkeys([*picks, *chosen]))[: max(count, len(picks))]


def halve(
    study: Study,
    finalists: Sequence[Genotype],
    executor: Executor,
    *,
    picks: Sequence[Genotype] = (),
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Train finalists rung by rung; the trials of the last rung that was reached. `picks` always go on."""
    alive, trials = list(finalists), list[Trial]()
    for rung in study.plan.finalist_steps:
        trials = score_all(study, alive, executor, stage=STAGE, fidelity=_fidelity(rung), on_trial=on_trial)
        alive = promoted(study, trials, picks)
    return [trial for trial in trials if trial.state is TrialState.COMPLETE]


def promoted(study: Study, trials: Sequence[Trial], picks: Sequence[Genotype] = ()) -> list[Genotype]:
    """Of the trials of a rung, those that go on to the next: the picks, and the best share `keep`."""
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    count = max(1, math.ceil(len(complete) * study.plan.keep))
    best = [complete[i].genotype for i in by_rank_and_spread(study.points(complete), count)]
    trained = {trial.genotype for trial in trials}
    return list(dict.fromkeys([*(pick for pick in picks if pick in trained), *best]))


def runs_of(finalists: int, rungs: Sequence[int], keep: float) -> int:
    """How many trials `halve` will make: for progress bars."""
    total = 0
    for _ in rungs:
        total += finalists
        finalists = max(1, math.ceil(finalists * keep))
    return total


def _chosen(context: Context) -> list[Genotype]:
    study = context.study
    return choose_finalists(study, context.plan.finalists, context.picks) if study.complete() else []


def _ended(trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.state is not TrialState.RUNNING]


def _fidelity(steps: int) -> Fidelity:
    return Fidelity(evaluator="scratch", steps=steps)
