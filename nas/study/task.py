"""The learning task of a study: what its quality objective scores, on data that must stay the same."""

from __future__ import annotations

from evaluators.tasks.base import Task, tasks
from foundation.errors import DataError, SettingError
from nas.objectives.base import objectives
from nas.study.facts import CORPUS
from nas.study.plan import Plan
from nas.study.plan_objectives import quality_name
from nas.study.study import Study


def length_of(study: Study) -> int | None:
    """Tokens of the windows of a study; None where nothing is trained."""
    task = study.scored_task
    return None if task is None else study.plan.window or task.length


def make_task(plan: Plan) -> Task:
    """The task of a plan, opened.

    Raises:
        DataError: its data cannot be used.
        SettingError: nothing is trained, or the task does not come in these sizes.
    """
    kind = tasks[objectives[quality_name(plan)].task]
    return kind.make(data=plan.data, length=plan.window, windows=plan.validation_windows)


def task_of(study: Study) -> Task:
    """The task that a study has learned.

    Raises:
        SettingError: the study trains nothing, or has not begun to.
        DataError: its text is no longer the same.
    """
    quality_name(study.plan)
    task, recorded = make_task(study.plan), study.facts.get(CORPUS)
    about = task.about()
    if about is not None and recorded is None:
        raise SettingError(f"study {study.name} has learned no text yet: `nas resume {study.name}`")
    if about is not None and recorded and about["digest"] != recorded["digest"]:
        raise DataError(
            f"study {study.name} learned the corpus {recorded['digest']}, but {about['name']} is now"
            f" {about['digest']}"
        )
    return task
