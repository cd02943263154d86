"""Commands that work on a study: search, resume."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foundation.files import real_path
from foundation.settings import describe
from nas.commands.groups import SEARCH
from nas.commands.options import KeepSource, SourceFile, SpaceName, Store, StudyName, Yes
from nas.commands.options_from_settings import Given, with_settings
from nas.commands.output import print_line
from nas.default_paths import DEFAULT_STORE
from nas.executors.workers import Workers
from nas.progress import Terminal
from nas.study.plan import Plan, plan_of

if TYPE_CHECKING:
    from nas.steps.base import Context

_current: list[str] = []


def current_study() -> str | None:
    """The study that this process works on, for the message after Ctrl-C."""
    return _current[-1] if _current else None


def work_on(name: str) -> None:
    """Remember which study this process works on."""
    _current.append(name)


def mount(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (search, resume):
        app.command(rich_help_panel=SEARCH)(command)


@with_settings(Plan)
@with_settings(Workers, into="workers")
def search(
    space: SpaceName,
    *,
    settings: Given,
    workers: Given,
    name: Annotated[
        str | None, typer.Option(help="Name of the study.", show_default="that of the space")
    ] = None,
    store: Store = DEFAULT_STORE,
    yes: Yes = False,
) -> None:
    """Search a space, and report its Pareto front.

    A study of this name over the same space is continued where it stopped; with more trials, it is extended.
    Settings that are left out are then those of the study; others must be given as they were.

    Example: nas search laptop --name first -o bits_per_byte -o decode_ms -c 'weight_bytes<2e5'
    """
    from nas.commands.consent import with_consent
    from nas.steps.base import Context
    from nas.strategies.foreign import require_consent
    from nas.study.source import source_of
    from nas.study.space_files import absolute_source, load_space

    loaded = load_space(space)
    files = source_of(space)
    name, source = loaded.name if name is None else name, absolute_source(space)
    known = _plan_of(name, store, loaded)
    with_consent(partial(require_consent, settings.get("strategy", (known or Plan).strategy)), yes)
    if known is None:
        plan = plan_of(loaded, {**_located(settings, plan_of(loaded, {}), store), "source": source})
    else:
        plan = replace(known, **_located(settings, known, store), source=source)
    pool = Workers(**workers)
    pool.check(plan.time_on, Terminal().say)
    study = _created(loaded, plan, name, store, yes, source=files, given=settings)
    _run(Context(study=study, workers=pool, progress=Terminal()))


def _plan_of(name: str, store: str, space: Any) -> Plan | None:
    """The settings of the study of this name over this space, if there is one."""
    from nas.store import Store as Opened
    from nas.store.location import sqlite_path
    from nas.study.study import Study

    path = sqlite_path(store)
    if path is not None and not path.is_file():
        return None
    with Opened(store) as opened:
        if not opened.holds(name):
            return None
        study = Study(opened, opened.study(name))
        return study.plan if study.record.space_digest == space.digest else None


@with_settings(Plan, [d.name for d in describe(Plan) if d.about.changeable], show_defaults=False)
@with_settings(Workers, into="workers")
def resume(
    study: StudyName,
    *,
    settings: Given,
    workers: Given,
    also_train: Annotated[
        list[str] | None,
        typer.Option(
            help="A trial that becomes a finalist beside those that the front gives. Repeat it for several."
        ),
    ] = None,
    space: SourceFile = None,
    keep_source: KeepSource = False,
    store: Store = DEFAULT_STORE,
    yes: Yes = False,
) -> None:
    """Continue a study after any stop: Ctrl-C, a kill, a power cut, a full disk.

    Trials that were running are run again; the result is that of a study that was never stopped. Only the
    settings below may change. A space of your own is run from the copy of its source in the study's folder.
    """
    from nas.commands.consent import with_consent
    from nas.strategies.foreign import require_consent
    from nas.study.resuming import going_on
    from nas.study.study import open_study

    opened = open_study(study, store)
    with closing(opened.store):
        with_consent(partial(require_consent, opened.plan.strategy), yes)
        begin = going_on(
            opened,
            store=store,
            settings=settings,
            also_train=also_train or (),
            space=space,
            keep_source=keep_source,
            workers=Workers(**workers),
            progress=Terminal(),
        )
    _run(with_consent(begin, yes))


def _created(space: Any, plan: Plan, name: str, store: str, yes: bool, *, source: Any, given: Given) -> Any:
    """The study, after the question whether it may take long."""
    from nas.commands.consent import with_consent
    from nas.progress import Terminal
    from nas.study.creation import create_study

    created = {"name": name, "store": store, "source": source, "given": given, "say": Terminal().say}
    create = partial(create_study, space, plan, **created)
    return with_consent(lambda agreed: create(yes=agreed), yes)


def _located(settings: Given, known: Plan, store: str) -> Given:
    """The settings with files that can be found from any folder, and typed settings of the engine.

    What is not among them is as in the plan that is `known`.
    """
    from nas.engines.base import parse_search_settings
    from nas.modifiers.lists import texts_of
    from nas.tables.library import find

    located = dict(settings)
    for name in ("data", "parent"):
        if settings.get(name):  # an empty path, which is refused, would become this folder
            located[name] = real_path(settings[name])
    if "latency_tables" in settings:
        located["latency_tables"] = tuple(
            real_path(find(source, store)) for source in settings["latency_tables"]
        )
    if settings.get("then"):
        located["then"] = texts_of(settings["then"])
    if "settings" in settings:
        engine, strategy = (settings.get(key, getattr(known, key)) for key in ("engine", "strategy"))
        located["settings"] = parse_search_settings(engine, strategy, settings["settings"])
    return located


def _run(context: Context) -> None:
    from nas.commands.show import print_front
    from nas.plugins import report_writer
    from nas.steps.base import run_steps
    from nas.study.tally import require_scored

    study = context.study
    work_on(study.name)
    context.progress.say(f"study {study.name} in {study.store.url}")
    run_steps(context)
    print_front(study, searched=True)
    write = report_writer()
    if write is not None:
        print_line(f"report: {write(study)}")
    if study.plan.trials:
        require_scored(study)
