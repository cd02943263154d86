"""Commands that work on a study: search, resume, validate."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from foundation.errors import SettingError
from nas.commands.options import (
    Batch,
    Gpus,
    OnDevice,
    RayAddress,
    Scenarios,
    Store,
    StudyName,
    WorkerCount,
    parse_scenarios,
)
from nas.study.plan import Plan

DEFAULT_STORE = "studies/studies.db"
DEFAULTS = Plan()

_current: list[str] = []


def current_study() -> str | None:
    """The study that this process works on, for the message after Ctrl-C."""
    return _current[-1] if _current else None


def mount(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (search, resume, validate):
        app.command()(command)


def search(
    space: Annotated[
        str,
        typer.Argument(help="A ready-made space (`nas spaces`), or FILE.py[:NAME].", show_default=False),
    ],
    name: Annotated[str | None, typer.Option(help="Name of the study; default: that of the space.")] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option("--objective", "-o", help="What to trade off; repeat it. `nas objectives` lists them."),
    ] = None,
    constraint: Annotated[
        list[str] | None,
        typer.Option(
            "--constraint", "-c", help="A bound known before training, as 'decode_ms<5'; repeat it."
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=0, help="Candidates to score.")] = DEFAULTS.trials,
    engine: Annotated[
        str,
        typer.Option(
            help="How the shared weights are searched: ofa (trials by a strategy), darts, exact, random;"
            " `nas engines` tells their settings."
        ),
    ] = DEFAULTS.engine,
    strategy: Annotated[
        str, typer.Option(help="What proposes in the engine ofa: random or nsga2.")
    ] = DEFAULTS.strategy,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the strategy or engine, as population=24; repeat it."),
    ] = None,
    evaluator: Annotated[
        str, typer.Option(help="supernet (one training for all), or scratch (each by itself).")
    ] = DEFAULTS.evaluator,
    supernet: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Search a supernet that `nas supernet train` made, without training; its steps, batch and"
            " length hold.",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where networks are trained and scored: cpu, or cuda:0.")
    ] = DEFAULTS.device,
    steps: Annotated[
        int, typer.Option(min=1, help="Training steps of the supernet, or of each candidate.")
    ] = DEFAULTS.steps,
    batch: Annotated[
        int, typer.Option(min=1, help="Windows that a network reads in a training step.")
    ] = DEFAULTS.batch,
    length: Annotated[
        int | None, typer.Option(min=1, help="Tokens per window; default: the task's own, 128 for text.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="A folder or file of text; default: the standard library's own source."),
    ] = None,
    scenario: Scenarios = None,
    table: Annotated[
        list[str] | None,
        typer.Option(
            help="A latency table: a file made by `nas profile`, or the name of an imported one; repeat it"
            " for several scenarios. Default: measure one."
        ),
    ] = None,
    estimate: Annotated[
        str | None,
        typer.Option(
            metavar="CARD",
            help="Estimate latency by a roofline from this device card (`nas devices`) instead of measuring.",
        ),
    ] = None,
    allow_rough_table: Annotated[
        bool,
        typer.Option(
            "--allow-rough-table",
            help="Use a latency table even if it errs by more than 10 % on whole networks.",
        ),
    ] = False,
    profile_seconds: Annotated[
        float, typer.Option(min=0.0, help="Time to spend on measuring a latency table.")
    ] = DEFAULTS.profile_seconds,
    on: OnDevice = None,
    finalists: Annotated[
        int, typer.Option(min=0, help="Networks to train from scratch at the end, spread over the front.")
    ] = DEFAULTS.finalists,
    rungs: Annotated[
        str, typer.Option(help="Training steps of the finalists' rungs; a third goes on.")
    ] = ",".join(map(str, DEFAULTS.rungs)),
    seed: Annotated[int, typer.Option(help="Decides all chance.")] = DEFAULTS.seed,
    workers: WorkerCount = 0,
    ray: RayAddress = None,
    batch_tasks: Batch = 1,
    gpus: Gpus = 0.0,
    store: Store = DEFAULT_STORE,
) -> None:
    """Search a space, and report its Pareto front.

    A study of this name over the same space goes on where it stopped; with more trials, it goes further.

    Example: nas search laptop --name first -o bits_per_byte -o decode_ms -c 'weight_bytes<2e5'
    """
    from nas.executors.workers import Workers
    from nas.study.creation import create_study
    from nas.study.space_files import load_space
    from nas.tables.library import find

    loaded, scenarios = load_space(space), parse_scenarios(scenario)
    plan = Plan(
        objectives=tuple(objective or DEFAULTS.objectives),
        constraints=tuple(constraint or ()),
        trials=trials,
        engine=engine,
        strategy=strategy,
        strategy_settings=dict(map(parse_setting, setting or ())),
        evaluator=evaluator,
        supernet=str(supernet) if supernet else None,
        device=device,
        steps=steps,
        batch=batch,
        length=length,
        data=str(Path(data).resolve()) if data else None,
        scenario=scenarios[0],
        also=tuple(scenarios[1:]),
        tables=tuple(str(find(source).resolve()) for source in table or ()),
        estimate=estimate,
        allow_rough_table=allow_rough_table,
        profile_seconds=profile_seconds,
        on=on,
        finalists=finalists,
        rungs=parse_rungs(rungs),
        seed=seed,
        source=absolute_source(space),
    )
    pool = Workers(workers, ray, batch_tasks, gpus=gpus)
    pool.check(plan.on)
    _work_on(create_study(loaded, plan, name=name or loaded.name, store=store), pool)


def resume(
    study: StudyName,
    trials: Annotated[int | None, typer.Option(min=0, help="Go on up to this many candidates.")] = None,
    pick: Annotated[
        list[str] | None,
        typer.Option(
            help="A trial to train from scratch with the finalists, besides the front's own; repeat it."
        ),
    ] = None,
    allow_rough_table: Annotated[
        bool,
        typer.Option(
            "--allow-rough-table",
            help="From here on, use a latency table even if it errs by more than 10 % on whole networks.",
        ),
    ] = False,
    workers: WorkerCount = 0,
    ray: RayAddress = None,
    batch_tasks: Batch = 1,
    gpus: Gpus = 0.0,
    store: Store = DEFAULT_STORE,
) -> None:
    """Go on with a study after any stop: Ctrl-C, a kill, a power cut, a full disk.

    Trials that were running are run again; everything else goes on as if nothing had happened.
    """
    from nas.executors.workers import Workers
    from nas.study.creation import create_study
    from nas.study.study import open_study

    known = open_study(study, store)
    plan = known.plan.with_trials(max(trials or 0, known.plan.trials))
    plan = replace(plan, allow_rough_table=plan.allow_rough_table or allow_rough_table)
    loaded = source_of(known)
    picks = tuple(known.trial(which).genotype for which in pick or ())
    known.store.close()
    pool = Workers(workers, ray, batch_tasks, gpus=gpus)
    pool.check(plan.on)
    _work_on(create_study(loaded, plan, name=study, store=store), pool, picks)


def validate(
    study: StudyName,
    networks: Annotated[int, typer.Option(min=3, help="Random networks to train from scratch.")] = 12,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps of each; default: the study's last rung.")
    ] = None,
    random: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Random architectures to hold the search against (0: none); default: as many as its engine"
            " scored, and with the evaluator scratch those that are on record.",
        ),
    ] = None,
    workers: WorkerCount = 0,
    ray: RayAddress = None,
    gpus: Gpus = 0.0,
    store: Store = DEFAULT_STORE,
) -> None:
    """Tell how far a study can be trusted: its proxy against training from scratch, its front against chance.

    Prints rank correlations and the gain in hypervolume with their 95 % intervals; the report shows them too.
    Can be stopped and repeated.
    """
    from nas.executors.workers import Workers
    from nas.progress import Terminal
    from nas.study.study import Study, open_study
    from nas.validation.validate import lines_of, validate_study

    _current.append(study)
    found = open_study(study, store, read_only=False)
    if found.space.digest != found.record.space_digest:  # constraints in code are not in the store
        found = Study(found.store, found.record, source_of(found))
    pool = Workers(workers, ray, gpus=gpus)
    for line in lines_of(found, validate_study(found, networks, steps, pool, Terminal(), random=random)):
        print_line(line)


def parse_setting(text: str) -> tuple[str, Any]:
    """`population=24` as a name and a value: a number where it looks like one."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise SettingError(f"--set {text!r}: write it as name=value")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def parse_rungs(text: str) -> tuple[int, ...]:
    """`100,300,800` as numbers."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise SettingError(f"--rungs {text!r}: write whole numbers with commas, as 100,300,800") from None


def absolute_source(source: str) -> str:
    """A space's source that can be found from any folder."""
    path, colon, name = source.partition(":")
    return f"{Path(path).resolve()}{colon}{name}" if path.endswith(".py") else source


def source_of(study: Any) -> Any:
    """The space of a study from where it was defined, or from the store where it has no constraints in code.

    Raises:
        SettingError: the source is gone or has changed.
    """
    from foundation.errors import SpaceError, UnknownName
    from nas.objectives.base import objectives
    from nas.study.space_files import load_space

    own = [name for name in study.plan.objectives if name not in objectives]
    if own:
        raise SettingError(
            f"study {study.name} trades off {', '.join(own)}, functions of a Python program: resume it there,"
            " by calling nas.search again"
        )
    if study.plan.source is None:
        if study.space.digest != study.record.space_digest:
            raise SettingError(
                f"study {study.name} was started in Python: call nas.search again to resume it"
            )
        return study.space
    try:
        space = load_space(study.plan.source)
    except (SpaceError, UnknownName) as error:
        raise SettingError(f"study {study.name} needs its space again: {error}") from None
    if space.digest != study.record.space_digest:
        raise SettingError(
            f"the space {study.plan.source} has changed since study {study.name} was started: it is now"
            f" {space.digest}, and was {study.record.space_digest}"
        )
    return space


def print_line(text: str) -> None:
    """A result, on standard output."""
    sys.stdout.write(text + "\n")


def _work_on(study: Any, workers: Any, picks: tuple[Any, ...] = ()) -> None:
    from nas.commands.show import print_front
    from nas.plugins import report_writer
    from nas.progress import Terminal
    from nas.steps.base import Context, run_steps

    _current.append(study.name)
    terminal = Terminal()
    terminal.say(f"study {study.name} in {study.store.url}")
    run_steps(Context(study=study, workers=workers, progress=terminal, picks=picks))
    print_front(study)
    write = report_writer()
    if write is not None:
        print_line(f"report: {write(study)}")
