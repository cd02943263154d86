"""`nas.open(NAME).resume()`: a study goes on after any stop, as by `nas resume NAME`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from foundation.errors import SettingError, UnknownName
from foundation.registry import nearest
from foundation.settings import check_flag, describe
from foundation.wording import argument
from nas.engines.base import engines
from nas.executors.workers import Workers
from nas.modifiers.lists import texts_of
from nas.progress import Progress, progress_of
from nas.schedulers.base import schedulers
from nas.steps.base import Context, run_steps
from nas.steps.finalists import Finalists
from nas.strategies.base import strategies
from nas.study.creation import create_study
from nas.study.plan import Plan
from nas.study.source import source_of
from nas.study.source_files import MAIN, place_of_module
from nas.study.source_loading import require_unchanged
from nas.study.study import Study
from nas.study.trial import Trial


def resume(
    study: Study,
    *,
    store: str | Path,
    settings: Mapping[str, Any],
    also_train: Sequence[Trial | str | int],
    space: str | None,
    keep_source: bool,
    workers: int | str | Workers,
    progress: Progress | bool | None,
    yes: bool,
) -> Study:
    """Go on with a study in this store; see `nas.study.open_study.OpenStudy.resume`."""
    pool, shown = Workers.of(workers), progress_of(progress)
    for name, flag in (("keep_source", keep_source), ("yes", yes)):
        check_flag(name, flag)
    begin = going_on(
        study,
        store=store,
        settings=settings,
        also_train=also_train,
        space=space,
        keep_source=keep_source,
        workers=pool,
        progress=shown,
    )
    context = begin(yes)
    run_steps(context)
    return context.study


def going_on(
    study: Study,
    *,
    store: str | Path,
    settings: Mapping[str, Any],
    also_train: Sequence[Trial | str | int],
    space: str | None,
    keep_source: bool,
    workers: Workers,
    progress: Progress,
) -> Callable[[bool], Context]:
    """Check all that needs no consent. What is returned is told whether there is, and gives what is to run.

    Raises:
        SettingError: a setting makes no sense, the source was edited, or only its program can resume it.
        UnknownName: there is no such setting, or it may not change.
    """
    plan = _plan(study, settings)
    if 0 < settings.get("trials", plan.trials) < plan.trials:
        fewer = argument("trials", settings["trials"])
        progress.say(f"{fewer}: {plan.trials} are planned already, and none is taken back")
    chosen = [each if isinstance(each, Trial) else study.trial(each) for each in also_train]
    if chosen and not Finalists().wanted(plan):
        raise SettingError(f"{argument('also_train')}: study {study.name} trains no finalists from scratch")
    _require_elsewhere(study)
    if space is None and not keep_source:
        require_unchanged(study.name, study.source)
    loaded = study.reloaded_space(space)
    require_installed(study)  # now, since the source of a space may define a strategy
    source = source_of(space) if space else None
    workers.check(plan.time_on, progress.say)
    functions = study.functions
    picks = tuple(trial.genotype for trial in chosen)

    def begin(agreed: bool) -> Context:
        created = create_study(
            loaded,
            plan,
            name=study.name,
            store=store,
            functions=functions,
            source=source,
            given=settings,
            yes=agreed,
            say=progress.say,
        )
        return Context(study=created, functions=functions, workers=workers, progress=progress, picks=picks)

    return begin


def require_installed(study: Study) -> None:
    """Raise `SettingError` where the study is searched by something that is not installed here."""
    plan = study.plan
    try:
        for registry, name in (
            (engines, plan.engine),
            (strategies, plan.strategy),
            (schedulers, plan.scheduler),
        ):
            registry[name]
    except UnknownName as error:
        raise SettingError(
            f"study {study.name} cannot go on here: {error}; install what it was made with, such as another"
            " version of nas or the package that brings it"
        ) from None


def _plan(study: Study, settings: Mapping[str, Any]) -> Plan:
    """The settings of the study with those that may change.

    Raises:
        SettingError: one makes no sense.
        UnknownName: there is no such setting, or it may not change.
    """
    changeable = {d.name for d in describe(Plan) if d.about.changeable and not d.about.hidden}
    if unknown := sorted(set(settings) - changeable):
        raise UnknownName(
            f"a study cannot go on with another {unknown[0]}; {nearest(unknown[0], changeable)}"
        )
    if settings.get("then"):
        settings = {**settings, "then": texts_of(settings["then"])}
    return study.plan.continued_by(replace(study.plan, **settings))


def _require_elsewhere(study: Study) -> None:
    """Refuse to run the copy of what this very program defines."""
    source, place = study.source, place_of_module(MAIN)
    if source is None or source.parts is None or place is None:
        return
    if source.parts.script and Path(source.origin) == place.folder / place.file:
        raise SettingError(f"this program defines what study {study.name} is made of: call nas.search again")
