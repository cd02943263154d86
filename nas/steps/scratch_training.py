"""How steps train networks from scratch: on the study's workers, with a bar of ended trials."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

from nas.executors.base import Executor
from nas.steps.base import Context
from nas.steps.corpus import opened_tasks
from nas.study.evaluators import scorers_of, scratch_evaluator
from nas.study.plan_objectives import quality_name
from nas.study.trial import Trial


@contextmanager
def training_from_scratch(
    context: Context, title: str, total: int, *, told: Callable[[Trial], str] | None = None
) -> Iterator[tuple[Executor, Callable[[Trial], None]]]:
    """What scores by training from scratch, and what counts each of `total` trials into the bar `title`.

    Networks are trained for every task of the study, whatever they score: a gate is one of the search, where
    all candidates are trained equally long.

    `told` is what the bar says of a trial before its score; its steps, where it is left out.
    """
    plan, tasks = context.plan, opened_tasks(context)
    quality, folder = quality_name(plan), context.study.folder
    alone = {name: scratch_evaluator(plan, task, folder) for name, task in tasks.items()}
    ended = count(1)
    with (
        context.workers.executor(scorers_of(plan, alone, tasks), context.progress.say) as executor,
        context.progress.bar(title, total) as bar,
    ):

        def on_trial(trial: Trial) -> None:
            about = f"{trial.fidelity.steps} steps" if told is None else told(trial)
            bar.update(next(ended), f"{about}: {trial.summary(quality)}")

        yield executor, on_trial
