"""The learning tasks of a study: what its quality objectives score, on data that must stay the same."""

from __future__ import annotations

from dataclasses import replace

from evaluators.tasks.base import Task, tasks
from evaluators.tasks.shared import SharedTraining
from foundation.errors import DataError, SettingError
from foundation.wording import argument
from nas.objectives.base import objectives
from nas.study.facts import CORPUS
from nas.study.plan import DATA_VOCAB, Plan
from nas.study.plan_objectives import quality_name, scored_names
from nas.study.study import Study
from nas.study.task_settings import with_own_settings

TEXT = "language"
"""The task whose text is read where nothing is learned."""


def length_of(study: Study) -> int | None:
    """Tokens of the windows of a study's first task; None where nothing is trained."""
    task, quality = study.scored_task, study.quality
    if task is None or quality is None:
        return None
    own = study.plan.task_settings.get(f"{quality.task}.length")
    return own if isinstance(own, int) else study.plan.window or task.length


def make_tasks(plan: Plan) -> dict[str, Task]:
    """The tasks of a plan by their scores, opened; of several, the text is for those that take it.

    Raises:
        DataError: their data cannot be used.
        SettingError: one does not come in these sizes.
    """
    names = scored_names(plan)
    kinds = {name: tasks[objectives[name].task] for name in names}
    readers = [name for name, kind in kinds.items() if kind.takes_data] or list(names)
    made = {}
    for name, kind in kinds.items():
        data = plan.data if name in readers else None
        task = kind.make(data=data, length=plan.window, windows=plan.validation_windows)
        made[name] = with_own_settings(plan, task)
    if not plan.shared_training or len(made) < 2:
        return made
    parts = tuple(made.values())
    return {name: SharedTraining(parts, judged) for judged, name in enumerate(made)}


def make_task(plan: Plan) -> Task:
    """The first task of a plan, opened.

    Raises:
        DataError: its data cannot be used.
        SettingError: nothing is trained, or the task does not come in these sizes.
    """
    return make_tasks(plan)[quality_name(plan)]


def probed_task(plan: Plan) -> Task:
    """What zero-cost scores read: the first task of a plan, or text where nothing is learned.

    Raises:
        DataError: its data cannot be used.
        SettingError: the task does not come in these sizes.
    """
    made = make_tasks(plan)
    if made:
        return next(iter(made.values()))
    return tasks[TEXT].make(data=plan.data, length=plan.window, windows=plan.validation_windows)


def check_tokens(tokenizer: bytes | None, task: Task) -> None:
    """Refuse data whose tokens mean something else than those of this tokenizer, which the weights know.

    Raises:
        SettingError: they do.
    """
    if tokenizer is None or task.tokenizer_json() == tokenizer:
        return
    raise SettingError(
        "the network has a tokenizer, and the data were not prepared with it: prepare them, `nas corpus TEXT"
        f" --tokenizer FOLDER` with the folder of the network, and name them with {argument('data')}"
    )


def doubt_of_tokens(tokenizer: bytes | None, vocab: int, task: Task) -> str:
    """What is not known of a network of `vocab` tokens on this task, in a sentence; empty where all is."""
    if tokenizer is not None or (vocab == task.vocab and task.tokenizer_json() is None):
        return ""
    return (
        "the network has no tokenizer, so nothing says whether it was trained on the tokens of this text:"
        " if it was not, its scores mean nothing"
    )


def with_vocab_of_data(plan: Plan) -> Plan:
    """The plan with the vocabulary of its data in the place of the word `data`.

    Raises:
        DataError: the data cannot be used.
    """
    if plan.vocab != DATA_VOCAB:
        return plan
    made = list(make_tasks(plan).values()) or [probed_task(plan)]
    return replace(plan, vocab=max(task.vocab for task in made))


def corpus_fact(task: Task, made: dict[str, Task]) -> str:
    """Where a study's record keeps the data of a task: those of its first one with data as before."""
    first = next((each for each in made.values() if each.about() is not None), task)
    return CORPUS if first is task else f"{CORPUS} of {task.score_name}"


def task_of(study: Study) -> Task:
    """The first task that a study has learned.

    Raises:
        SettingError: the study trains nothing, or has not begun to.
        DataError: its text is no longer the same.
    """
    return tasks_of(study)[quality_name(study.plan)]


def tasks_of(study: Study) -> dict[str, Task]:
    """The tasks that a study has learned, by their scores.

    Raises:
        SettingError: the study trains nothing, or has not begun to.
        DataError: a text is no longer the same.
    """
    quality_name(study.plan)
    made, facts = make_tasks(study.plan), study.facts
    for task in made.values():
        about, recorded = task.about(), facts.get(corpus_fact(task, made))
        if about is not None and recorded is None:
            raise SettingError(f"study {study.name} has learned no text yet: `nas resume {study.name}`")
        if about is not None and recorded and about["digest"] != recorded["digest"]:
            raise DataError(
                f"study {study.name} learned the corpus {recorded['digest']}, but {about['name']} is now"
                f" {about['digest']}"
            )
    return made
