"""The task of a study: what its quality objective scores, on data that must stay the same."""

from __future__ import annotations

from evaluators.tasks.base import Task, tasks
from foundation.errors import DataError, SettingError
from nas.objectives.base import objectives
from nas.study.plan import Plan
from nas.study.scoring import add_fact
from nas.study.study import Study

CORPUS = "corpus"


def quality_of(plan: Plan) -> str | None:
    """The objective of a plan that an evaluator scores; None where nothing is trained.

    Raises:
        SettingError: there are several, and an evaluator trains for one.
    """
    scored = [name for name in plan.objectives if name in objectives and objectives[name].task]
    if len(scored) > 1:
        raise SettingError(f"a study trains for one task, not for {' and '.join(scored)}")
    return scored[0] if scored else None


def quality_name(plan: Plan) -> str:
    """The same, where there must be one.

    Raises:
        SettingError: nothing is trained.
    """
    name = quality_of(plan)
    if name is None:
        scored = ", ".join(o.name for o in objectives.values() if o.task)
        raise SettingError(f"nothing is trained in this study: none of its objectives is one of {scored}")
    return name


def length_of(plan: Plan) -> int | None:
    """Tokens of the windows of a plan; None where nothing is trained."""
    quality = quality_of(plan)
    return None if quality is None else plan.length or tasks[objectives[quality].task].length


def make_task(plan: Plan) -> Task:
    """The task of a plan, opened.

    Raises:
        DataError: its data cannot be used.
        SettingError: nothing is trained, or the task does not come in these sizes.
    """
    kind = tasks[objectives[quality_name(plan)].task]
    return kind.make(data=plan.data, length=plan.length, windows=plan.windows)


def prepare_task(study: Study) -> Task:
    """The task of a study, with its data on record; the same data as before, or an error."""
    task = make_task(study.plan)
    about, known = task.about(), study.facts.get(CORPUS)
    if about is not None and known and known["digest"] != about["digest"]:
        raise SettingError(
            f"study {study.name} was started on the corpus {known['digest']}, but {about['name']} is now"
            f" {about['digest']}: scores of two corpora cannot be compared; choose another name"
        )
    if about is not None and not known:
        add_fact(study, CORPUS, about)
    return task


def task_of(study: Study) -> Task:
    """The task that a study has learned.

    Raises:
        SettingError: the study trains nothing, or has not begun to.
        DataError: its text is no longer the same.
    """
    quality_name(study.plan)
    task, known = make_task(study.plan), study.facts.get(CORPUS)
    about = task.about()
    if about is not None and known is None:
        raise SettingError(f"study {study.name} has learned no text yet: `nas resume {study.name}`")
    if about is not None and known and about["digest"] != known["digest"]:
        raise DataError(
            f"study {study.name} learned the corpus {known['digest']}, but {about['name']} is now"
            f" {about['digest']}"
        )
    return task
