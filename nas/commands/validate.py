"""The command that says how far a study can be trusted: validate."""

from __future__ import annotations

from typing import Annotated

import typer

from nas.commands.options import Gpus, RayAddress, Store, StudyName, WorkerCount
from nas.commands.output import print_line
from nas.commands.search import work_on
from nas.folders import DEFAULT_STORE


def mount(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(validate)


def validate(
    study: StudyName,
    networks: Annotated[int, typer.Option(min=3, help="Random networks to train from scratch.")] = 12,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps of each.", show_default="the study's last rung")
    ] = None,
    random: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Random architectures to compare the search with (0: none).",
            show_default="as many as the engine scored; with the evaluator scratch, those on record",
        ),
    ] = None,
    workers: WorkerCount = 0,
    ray: RayAddress = None,
    gpus: Gpus = 0.0,
    store: Store = DEFAULT_STORE,
) -> None:
    """Show how far a study can be trusted: its proxy against training from scratch, its front against chance.

    Prints rank correlations and the gain in hypervolume with their 95 % intervals; the report shows them too.
    Can be stopped and repeated.
    """
    from nas.executors.workers import Workers
    from nas.progress import Terminal
    from nas.study.study import Study, open_study
    from nas.validation.validate import lines_of, validate_study

    work_on(study)
    opened = open_study(study, store, read_only=False)
    if opened.space.digest != opened.record.space_digest:  # constraints in code are not in the store
        opened = Study(opened.store, opened.record, opened.reloaded_space())
    pool = Workers(workers, ray, gpus=gpus)
    for line in lines_of(opened, validate_study(opened, networks, steps, pool, Terminal(), random=random)):
        print_line(line)
