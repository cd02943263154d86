"""Validation of a study as a user asks for it: with the study's own task, workers and progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from foundation.errors import SettingError
from nas.executors.local import InProcess
from nas.executors.workers import Workers
from nas.progress import Progress
from nas.steps.base import Context, run_steps
from nas.steps.profile import bench
from nas.steps.search import SearchByTrials
from nas.steps.train import evaluator
from nas.study.evaluators import EvaluatorScorer, scratch_evaluator
from nas.study.plan_objectives import quality_name
from nas.study.study import Study
from nas.study.task import task_of
from nas.study.trial import Trial
from nas.validation.checks import (
    Checked,
    Gained,
    Hear,
    spent,
    still_wanted,
    told_effort,
    top_fidelity,
    validate,
    validate_gain,
)
from nas.validation.claims import Claims


@dataclass(frozen=True)
class Validation:
    """What was found out with `steps` of training from scratch; `missing` says what was not, and why."""

    steps: int
    checked: Checked | None
    gain: Gained | None
    missing: tuple[str, ...] = ()


def validate_study(
    study: Study,
    networks: int,
    steps: int | None,
    workers: Workers,
    progress: Progress,
    *,
    random: int | None = None,
) -> Validation:
    """The proxy against training from scratch (by default at the top fidelity), the search against chance.

    See `nas.validation.checks`. `random` are the random architectures to hold the search against (0: leave it
    out).
    """
    steps = steps or top_fidelity(study)
    context = Context(study=study, workers=workers, progress=progress)
    task, quality = task_of(study), quality_name(study.plan)
    run_steps(context, SearchByTrials.needs)
    by_proxy = EvaluatorScorer(evaluator(context))
    by_truth = EvaluatorScorer(scratch_evaluator(study.plan, task, study.folder))
    checked = measured = None
    missing = []
    try:
        if random != 0:
            with (
                workers.executor({quality: by_proxy}) as scorer,
                _phase(progress, "scoring random choice", still_wanted(study, random)) as hear,
            ):
                measured = validate_gain(study, bench(context), scorer, random=random, on_trial=hear)
    except SettingError as error:
        missing.append(f"no gain over random choice: {error}")
    try:
        with (
            workers.executor({quality: by_truth}) as trainer,
            _phase(progress, "validating the proxy", 2 * networks) as hear,
        ):
            here = InProcess({quality: by_proxy})
            checked = validate(
                study, networks, steps, proxy=here, truth=trainer, bench=bench(context), on_trial=hear
            )
    except SettingError as error:
        missing.append(f"no rank correlation: {error}")
    if checked is None and measured is None:
        raise SettingError(missing[-1])
    return Validation(steps, checked, measured, tuple(missing))


@contextmanager
def _phase(progress: Progress, title: str, total: int) -> Iterator[Hear]:
    """A phase of so many trials; hears each."""
    done = 0
    with progress.phase(title, total) as phase:

        def hear(trial: Trial) -> None:
            nonlocal done
            done += 1
            phase.update(done, f"{trial.fidelity.evaluator} {trial.digest}")

        yield hear


def told(study: Study, found: Validation) -> list[str]:
    """The same in words, line by line."""
    lines = []
    if found.checked is not None:
        one = found.checked.agreement
        lines.append(
            f"Kendall tau of {study.plan.evaluator} against {found.steps} steps from scratch,"
            f" {len(one.pairs)} random networks: {one}"
        )
        lines += _claimed(found.checked.claims)
    if found.gain is not None:
        lines.append(f"{study.plan.engine}: {found.gain.equal}")
        if found.gain.over_all.against > found.gain.equal.against:
            lines.append(f"{study.plan.engine}: {found.gain.over_all}")
        lines.append(told_effort(spent(study)))
    return [*lines, *found.missing]


def _claimed(claims: Claims | None) -> list[str]:
    if claims is None:
        return []
    agreed = [
        f"Kendall tau of {claims.by} against {against}, {len(one.pairs)} random networks: {one}"
        for against, one in claims.agreements
    ]
    return [*agreed, *(f"{claims.engine}: {text}" for text in claims.told)]
