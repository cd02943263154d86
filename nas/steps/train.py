"""The third step: the shared weights are trained, or taken from the supernet that the plan names."""

from __future__ import annotations

from functools import partial

from evaluators.scoring.base import Evaluator
from evaluators.supernet.evaluator import FromSupernet
from evaluators.supernet.folder import NoSupernet, SupernetError, read_training
from foundation.errors import FileError, NoFile
from nas.progress import ProgressBar
from nas.steps.base import Context, Step, computed_once, steps
from nas.steps.corpus import opened_tasks
from nas.study.evaluators import search_evaluator, supernet_evaluator
from nas.study.facts import SUPERNET, add_fact
from nas.study.plan import Plan
from nas.study.plan_objectives import quality_name, quality_of

READERS = ("search", "measure")
"""The steps that read the shared weights."""


@computed_once
def evaluators(context: Context) -> dict[str, Evaluator]:
    """What scores the candidates of the search, by score; a supernet has been trained by the step."""
    study, plan = context.study, context.plan
    if plan.evaluator == "scratch":
        return {
            name: search_evaluator(plan, task, study.folder) for name, task in opened_tasks(context).items()
        }
    return dict(_supernets(context))


def evaluator(context: Context) -> Evaluator:
    """The first of them."""
    return evaluators(context)[quality_name(context.plan)]


def _supernets(context: Context) -> dict[str, FromSupernet]:
    """The supernets of the study by score, or the one that its plan names; those of a training are equal."""
    study = context.study
    return {
        name: supernet_evaluator(study.space, study.plan, task, study.folder)
        for name, task in opened_tasks(context).items()
    }


def supernet_fact(context: Context, score: str) -> str:
    """Where a study's record keeps the training of a supernet: that of its first score as of the only one."""
    return SUPERNET if score == quality_name(context.plan) else f"{SUPERNET} of {score}"


@steps.add
class Train(Step):
    """Wanted where candidates are read from a supernet. Latency comes first: it takes seconds."""

    name = "train"
    needs = ("corpus", "profile")

    def wanted(self, plan: Plan) -> bool:
        """Whether the candidates share weights, and there will be any."""
        return plan.evaluator == "supernet" and quality_of(plan) is not None and plan.trials > 0

    def done(self, context: Context) -> bool:
        """Whether the training is on record, and its weights are whole; they may be gone where nobody asks.

        Damaged weights are never scored with: the study's own are trained again, given ones are refused.
        """
        trained, facts = _trainings(context), context.study.facts
        if any(supernet_fact(context, score) not in facts for score in trained):
            return False
        try:
            for supernet in trained.values():
                supernet.verify()
        except (NoFile, NoSupernet):
            readers = [steps[name]() for name in READERS]
            return all(step.done(context) for step in readers if step.wanted(context.plan))
        except (FileError, SupernetError):
            return False
        return True

    def run(self, context: Context) -> None:
        """Train, going on from the last checkpoint; of a given supernet only the training is recorded.

        Raises:
            EvaluationFailed: a loss is not finite.
        """
        study, plan = context.study, context.plan
        if plan.supernet is not None:
            add_fact(study, SUPERNET, {**read_training(plan.supernet), "folder": plan.supernet})
            return
        trained = _trainings(context)
        for score, supernet in trained.items():
            title, reports = supernet.work
            title += f" of {score}" if len(trained) > 1 else ""
            with context.progress.bar(title, reports) as bar:
                told = partial(_tell, bar, supernet)
                fact = supernet.train(told, open_space=lambda: study.space)
            add_fact(study, supernet_fact(context, score), fact)


def _trainings(context: Context) -> dict[str, FromSupernet]:
    """One supernet for each training that there is to be, by the first score that it has."""
    first: dict[FromSupernet, str] = {}
    for score, supernet in _supernets(context).items():
        first.setdefault(supernet, score)
    return {score: supernet for supernet, score in first.items()}


def _tell(bar: ProgressBar, supernet: FromSupernet, step: int, loss: float) -> None:
    bar.update(step, supernet.told(loss))
