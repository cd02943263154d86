"""The first step: the data that the study's networks learn, cached and put on record.

Scores of two corpora cannot be compared, so a study keeps the corpus that it was started on.
"""

from __future__ import annotations

from evaluators.tasks.base import Task
from foundation.errors import SettingError
from nas.steps.base import Context, Step, computed_once, steps
from nas.study.facts import CORPUS, add_fact
from nas.study.plan import Plan
from nas.study.plan_objectives import quality_of
from nas.study.task import make_task


@computed_once
def opened_task(context: Context) -> Task:
    """The learning task of the study, with its data at hand."""
    return make_task(context.plan)


@steps.add
class Corpus(Step):
    """Wanted where something is trained; a task that makes its own data has nothing to record."""

    name = "corpus"

    def wanted(self, plan: Plan) -> bool:
        """Whether an objective is learned."""
        return quality_of(plan) is not None

    def done(self, context: Context) -> bool:
        """Whether this corpus is the one on record."""
        about = opened_task(context).about()
        recorded = context.study.facts.get(CORPUS)
        return about is None or (recorded is not None and recorded["digest"] == about["digest"])

    def run(self, context: Context) -> None:
        """Put the corpus on record.

        Raises:
            SettingError: the study was started on another one.
        """
        study, about = context.study, opened_task(context).about()
        if about is None:
            return
        recorded = study.facts.get(CORPUS)
        if recorded and recorded["digest"] != about["digest"]:
            raise SettingError(
                f"study {study.name} was started on the corpus {recorded['digest']}, but {about['name']} is"
                f" now {about['digest']}: scores of two corpora cannot be compared; choose another name"
            )
        add_fact(study, CORPUS, about)
