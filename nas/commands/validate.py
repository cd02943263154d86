"""The command that measures how far a study can be trusted: validate."""

from __future__ import annotations

from functools import partial

import typer

from nas.commands.groups import RESULTS
from nas.commands.options import SourceFile, Store, StudyName, Yes
from nas.commands.options_from_settings import Given, with_settings
from nas.commands.output import print_line
from nas.commands.search import work_on
from nas.default_paths import DEFAULT_STORE
from nas.executors.workers import Workers
from nas.validation.settings import ValidationSettings


def mount(app: typer.Typer) -> None:
    """Add this command."""
    app.command(rich_help_panel=RESULTS)(validate)


@with_settings(ValidationSettings)
@with_settings(Workers, into="workers")
def validate(
    study: StudyName,
    *,
    settings: Given,
    workers: Given,
    space: SourceFile = None,
    store: Store = DEFAULT_STORE,
    yes: Yes = False,
) -> None:
    """Show how far a study can be trusted: its proxy against training from scratch, its front against chance.

    Prints rank correlations and the gain in hypervolume with their 95 % intervals; the report shows them too.
    Can be stopped and repeated.
    """
    from nas.commands.consent import with_consent
    from nas.progress import Terminal
    from nas.study.open_study import open_study

    wanted, pool = ValidationSettings(**settings), Workers(**workers)
    work_on(study)
    run = partial(
        open_study(study, store, read_only=False).validate,  # an old store is brought up to date
        scratch_networks=wanted.scratch_networks,
        train_steps=wanted.train_steps,
        random_baseline=wanted.random_baseline,
        space=space,
        workers=pool,
        progress=Terminal(),
    )
    for line in with_consent(lambda agreed: run(yes=agreed), yes).lines:
        print_line(line)
