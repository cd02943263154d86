"""The first step: the data that the study's networks learn, cached and put on record.

Scores of two corpora cannot be compared, so a study keeps the corpus that it was started on. Its folder has a
copy of the tokenizer, where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from evaluators.tasks.base import Task
from foundation.errors import SettingError
from foundation.files import write_atomically
from nas.steps.base import Context, Step, computed_once, steps
from nas.study.facts import add_fact
from nas.study.plan import Plan
from nas.study.plan_objectives import quality_name, quality_of, zero_cost_names
from nas.study.task import corpus_fact, make_tasks, probed_task
from search_spaces.network.model_files import TOKENIZER


@computed_once
def opened_tasks(context: Context) -> dict[str, Task]:
    """The learning tasks of the study by their scores, with their data at hand."""
    return make_tasks(context.plan)


def opened_task(context: Context) -> Task:
    """The first of them, whose weights are kept.

    Raises:
        SettingError: nothing is trained.
    """
    return opened_tasks(context)[quality_name(context.plan)]


@steps.add
class Corpus(Step):
    """Wanted where something is trained, or read off initial weights; tasks without data record nothing."""

    name = "corpus"

    def wanted(self, plan: Plan) -> bool:
        """Whether an objective is learned, or read off the initial weights."""
        return quality_of(plan) is not None or bool(zero_cost_names(plan))

    def done(self, context: Context) -> bool:
        """Whether these corpora are the ones on record."""
        facts = context.study.facts
        return all(facts.get(fact, {}).get("digest") == about["digest"] for fact, about in _corpora(context))

    def run(self, context: Context) -> None:
        """Put the corpora on record.

        Raises:
            SettingError: the study was started on another one.
        """
        study = context.study
        for fact, about in _corpora(context):
            recorded = study.facts.get(fact)
            if recorded and recorded["digest"] != about["digest"]:
                raise SettingError(
                    f"study {study.name} was started on the corpus {recorded['digest']}, but {about['name']}"
                    f" is now {about['digest']}: scores of two corpora cannot be compared; choose another"
                    " name"
                )
            add_fact(study, fact, about)
        for task in _tasks(context).values():
            if (tokenizer := task.tokenizer_json()) is not None:
                write_atomically(study.folder / TOKENIZER, tokenizer)


def _tasks(context: Context) -> dict[str, Task]:
    """The tasks of the study; where nothing is learned, the one that is probed."""
    return opened_tasks(context) or {"": probed_task(context.plan)}


def _corpora(context: Context) -> Iterator[tuple[str, dict[str, Any]]]:
    """The data of each task that has some, with the fact that they are kept in."""
    made = _tasks(context)
    for task in made.values():
        about = task.about()
        if about is not None:
            yield corpus_fact(task, made), about
