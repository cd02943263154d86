"""The third step: the shared weights are trained, or taken from the supernet that the plan names."""

from __future__ import annotations

from evaluators.scoring.base import Evaluator
from evaluators.supernet.evaluator import FromSupernet
from evaluators.supernet.folder import NoSupernet, SupernetError, read_training
from foundation.errors import FileError, NoFile
from nas.steps.base import Context, Step, computed_once, steps
from nas.steps.corpus import opened_task
from nas.study.evaluators import scratch_evaluator, supernet_evaluator
from nas.study.facts import SUPERNET, add_fact
from nas.study.plan import Plan
from nas.study.plan_objectives import quality_of

READERS = ("search", "measure")
"""The steps that read the shared weights."""


@computed_once
def evaluator(context: Context) -> Evaluator:
    """What scores the candidates of the search; a supernet has been trained by the step."""
    study, plan, task = context.study, context.plan, opened_task(context)
    if plan.evaluator == "scratch":
        return scratch_evaluator(plan, task, study.folder)
    return _supernet(context)


def _supernet(context: Context) -> FromSupernet:
    """The supernet of the study, or the one that its plan names."""
    return supernet_evaluator(context.study.space, context.plan, opened_task(context), context.study.folder)


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
        if SUPERNET not in context.study.facts:
            return False
        try:
            _supernet(context).verify()
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
        study, plan, task = context.study, context.plan, opened_task(context)
        if plan.supernet is not None:
            add_fact(study, SUPERNET, {**read_training(plan.supernet), "folder": plan.supernet})
            return
        supernet = _supernet(context)
        with context.progress.bar("training the supernet", plan.train_steps) as bar:
            fact = supernet.train(
                lambda step, loss: bar.update(step, f"largest {loss:.3f} {task.unit}"),
                open_space=lambda: study.space,
            )
        add_fact(study, SUPERNET, fact)
