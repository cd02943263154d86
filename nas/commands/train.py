"""The command that trains one network further: train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evaluators.tasks.base import tasks
from nas.commands.groups import MODELS
from nas.commands.options import NetworkName, OfStudy, Output, SourceFile, Store, TrustCode
from nas.commands.options_from_settings import Given, with_settings
from nas.commands.output import print_line, print_note, print_table
from nas.default_paths import DEFAULT_STORE
from nas.training.settings import TrainingSettings

if TYPE_CHECKING:
    from evaluators.training.parallel.course import Course
    from nas.training.train import Trained


def mount(app: typer.Typer) -> None:
    """Add this command."""
    app.command(rich_help_panel=MODELS)(train)


Force = Annotated[
    bool, typer.Option("--force", help="Replace a model exported there before, and its training.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print what each process would hold by every method, and train nothing."),
]


@with_settings(TrainingSettings)
def train(
    what: NetworkName,
    trial: OfStudy = None,
    *,
    settings: Given,
    output: Output = None,
    force: Force = False,
    dry_run: DryRun = False,
    trust_code: TrustCode = False,
    space: SourceFile = None,
    store: Store = DEFAULT_STORE,
) -> None:
    """Train a winner further, in one process or many, into a folder like those of `nas export`.

    The same words go on with a training that was stopped (Ctrl-C saves it first); on another number of
    processes, too. `nas train FOLDER --steps N` goes on with the training in a folder, to N steps in all.

    Methods multiply: dp x tp, fsdp x tp, dp x pp, dp x fsdp and tp x pp work together. Each has settings of
    its own: dp.zero=1 (ZeRO 1), fsdp.reshard=false (ZeRO 2; without it ZeRO 3), pp.schedule=gpipe or 1f1b,
    tp.whole=true. The processes are started here, or all of them by torchrun: torchrun
    --nproc-per-node 4 --no-python nas train ...

    Example: nas train first 12 -o winner --steps 5000 --parallel dp=2,tp=2

    Example: nas train zoo:mamba2 --parallel fsdp=4 --dry-run
    """
    from foundation.errors import SettingError
    from foundation.files import real_path
    from nas.progress import Terminal
    from nas.training.settings import is_training
    from nas.training.start import check_named, check_output, start_of
    from nas.training.train import course_of
    from nas.training.train import train as run

    check_named(what, trial, store=store)
    if trial is not None and not dry_run:
        check_output(output, force=force, is_begun=is_training)
    start = start_of(
        what,
        trial,
        store=store,
        space=space,
        trust_code=trust_code,
        seed=settings.get("seed", 0),
        shapes_only=dry_run,
        unfinished=True,
        progress=Terminal(),
    )
    replaced = start.folder if output is None else output
    if force and trial is None and replaced is not None and real_path(replaced) == real_path(what):
        raise SettingError(f"{replaced} is the network to begin with: name another folder to write")
    chosen = TrainingSettings(**{**start.settings, **settings})
    if dry_run:
        _print_plan(course_of(start, chosen, Path("unused")))
        return
    trained = run(start, chosen, output, force=force, progress=Terminal())
    if trained.score is not None:  # else the first process tells
        _print_trained(trained, chosen)


def _print_trained(trained: Trained, settings: TrainingSettings) -> None:
    assert trained.score is not None
    speed = f", {trained.tokens_per_second:,.0f} tokens/s" if trained.tokens_per_second else ""
    state = (
        f"stopped at step {trained.step} of {settings.steps}" if trained.stopped else f"{trained.step} steps"
    )
    unit = tasks[settings.task].score_unit
    print_line(
        f"{trained.folder}: {state}{speed}; validation {trained.score.value:.4f}"
        f" ± {trained.score.standard_error:.4f} {unit}"
    )


def _print_plan(course: Course) -> None:
    """What a process would hold as it is asked for, and by every other method with as many processes."""
    from evaluators.training.parallel.plans import plans_of
    from foundation.text import size
    from search_spaces.devices import memory_of, on_cuda

    there = memory_of(course.device)
    rows, notes = [], []
    for plan in plans_of(course):
        name = str(plan.parallel) or "one process"
        if plan.held is None:
            notes.append(plan.why_not)
            continue
        held = plan.held
        needed = held.total * (1 if on_cuda(course.device) else plan.parallel.count)
        fits = "?" if there is None else "yes" if needed <= there else "no"
        parts = (held.weights, held.gradients, held.optimizer, held.gathered, held.activations, held.total)
        rows.append((name, *map(size, parts), fits))
    head = ("parallel", "weights", "gradients", "optimizer", "gathered", "activations", "a process", "fits")
    print_table(head, rows)
    for note in (course.compiles, *notes):
        print_note(note)
