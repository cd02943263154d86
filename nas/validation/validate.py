"""Validation of a study as a user asks for it: with the study's own task, workers and progress."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from nas.executors.local import InProcess
from nas.executors.workers import Workers
from nas.progress import Progress
from nas.steps.base import Context, run_steps
from nas.steps.corpus import opened_tasks
from nas.steps.profile import cost_model
from nas.steps.search import SearchByTrials, scorers_of_search
from nas.steps.train import evaluators
from nas.store.folders import working_in
from nas.study.evaluators import scorers_of, scratch_evaluator
from nas.study.forecast import Work, largest_of
from nas.study.scoring import OnTrial
from nas.study.study import Study
from nas.study.task import probed_task, task_of
from nas.study.trial import Trial
from nas.validation.claims import Claims
from nas.validation.effort import effort_of, effort_text
from nas.validation.errors import NothingToCompare
from nas.validation.proxy import ProxyCheck, check_proxy, is_own_truth, top_fidelity
from nas.validation.random_baseline import GainOverRandom, gain_over_random, still_wanted
from nas.validation.random_networks import random_networks, require_networks
from nas.validation.settings import ValidationSettings
from nas.validation.zero_cost import ZeroCostCheck, check_zero_cost


@dataclass(frozen=True)
class Validation:
    """What was measured with `steps` of training from scratch; `missing` says what was not, and why.

    `lines` are all of it in words, which it is printed as.
    """

    steps: int
    proxy: ProxyCheck | None
    gain: GainOverRandom | None
    missing: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    zero_cost: ZeroCostCheck | None = None

    def __str__(self) -> str:
        return "\n".join(self.lines)


def validate_study(
    study: Study,
    settings: ValidationSettings,
    workers: Workers,
    progress: Progress,
    *,
    yes: bool = False,
) -> Validation:
    """The proxy against training from scratch (by default at the top fidelity), the search against chance.

    Raises:
        NothingToCompare: neither can be judged, or there are fewer networks than are asked for.
        SettingError: the study trains nothing, or has not begun to.
        ConsentNeeded: it would take over a week, or more memory than there is; not asked for with `yes`.
    """
    steps = settings.train_steps or top_fidelity(study)
    if not is_own_truth(study, steps):
        require_networks(settings.scratch_networks, study.space.size())
    context = Context(study=study, workers=workers, progress=progress)
    task = task_of(study)  # complains about a study that has not begun, before anything is trained for it
    work = Work(largest=largest_of(study.space), length=task.length, device=study.plan.train_on)
    alone = work.learning(steps, study.plan.train_batch).times(settings.scratch_networks)
    (alone + work.scoring(settings.random_baseline or 0, task.windows)).require_consent(yes)
    with working_in(study.folder):
        run_steps(context, SearchByTrials.needs)
        validation = _validated(context, settings, steps)
    return replace(validation, lines=tuple(lines_of(study, validation)))


def _validated(context: Context, settings: ValidationSettings, steps: int) -> Validation:
    missing: list[str] = []
    gain = proxy = None
    if not is_own_truth(context.study, steps):  # before the baseline is scored, which takes long
        random_networks(context.study, settings.scratch_networks, cost_model(context))
    try:
        gain = None if settings.random_baseline == 0 else _gain(context, settings.random_baseline)
    except NothingToCompare as error:
        missing.append(f"no gain over random choice: {error}")
    try:
        proxy = _proxy(context, settings.scratch_networks, steps)
    except NothingToCompare as error:
        missing.append(f"no rank correlation: {error}")
    zero_cost = None
    try:
        zero_cost = _zero_cost(context, () if proxy is None else proxy.truths)
    except NothingToCompare as error:
        missing.append(f"no zero-cost scores: {error}")
    if proxy is None and gain is None and zero_cost is None:
        raise NothingToCompare(missing[0])
    return Validation(steps, proxy, gain, tuple(missing), zero_cost=zero_cost)


def _zero_cost(context: Context, truths: Sequence[Trial]) -> ZeroCostCheck:
    """Zero-cost scores against the networks that were trained: where the search trained all, its own."""
    study = context.study
    if not truths and context.plan.evaluator == "scratch":
        truths = study.complete()
    return check_zero_cost(study, truths, probed_task(context.plan))


def _gain(context: Context, random: int | None) -> GainOverRandom:
    study = context.study
    with (
        context.workers.executor(scorers_of_search(context)) as executor,
        _progress(context, "scoring random choice", still_wanted(study, random)) as on_trial,
    ):
        return gain_over_random(study, cost_model(context), executor, random=random, on_trial=on_trial)


def _proxy(context: Context, networks: int, steps: int) -> ProxyCheck:
    study, plan, tasks = context.study, context.plan, opened_tasks(context)
    scratch = {name: scratch_evaluator(plan, task, study.folder) for name, task in tasks.items()}
    with (
        context.workers.executor(scorers_of(plan, scratch, tasks)) as truth,
        _progress(context, "validating the proxy", 2 * networks) as on_trial,
    ):
        proxy = InProcess(scorers_of(plan, evaluators(context), tasks))
        return check_proxy(
            study,
            networks,
            steps,
            proxy=proxy,
            truth=truth,
            cost_model=cost_model(context),
            on_trial=on_trial,
        )


@contextmanager
def _progress(context: Context, title: str, total: int) -> Iterator[OnTrial]:
    """Progress over so many trials, each of which is passed to what this yields."""
    done = 0
    with context.progress.bar(title, total) as bar:

        def on_trial(trial: Trial) -> None:
            nonlocal done
            done += 1
            bar.update(done, f"{trial.fidelity.evaluator} {trial.digest}")

        yield on_trial


def lines_of(study: Study, validation: Validation) -> list[str]:
    """The results in words, line by line."""
    lines = []
    if validation.proxy is not None:
        others = validation.proxy.others
        for name, ranks in [("", validation.proxy.agreement), *others]:
            named = name or (study.quality.name if study.quality and others else "")
            lines.append(
                f"Kendall tau of {study.plan.evaluator} against {validation.steps} steps from scratch"
                f"{f' in {named}' if named else ''}, {len(ranks.pairs)} random networks: {ranks}"
            )
        lines += _claim_lines(validation.proxy.claims)
    if validation.zero_cost is not None:
        lines += validation.zero_cost.lines
    if validation.gain is not None:
        lines.append(f"{study.plan.engine}: {validation.gain.equal}")
        if validation.gain.over_all.against > validation.gain.equal.against:
            lines.append(f"{study.plan.engine}: {validation.gain.over_all}")
        lines.append(effort_text(effort_of(study)))
    return [*lines, *validation.missing]


def _claim_lines(claims: Claims | None) -> list[str]:
    if claims is None:
        return []
    agreed = [
        f"Kendall tau of {claims.by} against {against}, {len(ranks.pairs)} random networks: {ranks}"
        for against, ranks in claims.agreements
    ]
    return [*agreed, *(f"{claims.engine}: {remark}" for remark in claims.remarks)]
