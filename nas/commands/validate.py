"""The command that measures how far a study can be trusted: validate."""

from __future__ import annotations

from functools import partial

import typer

from nas.commands.options import Store, StudyName, Yes
from nas.commands.options_from_settings import Given, with_settings
from nas.commands.output import print_line
from nas.commands.search import work_on
from nas.default_paths import DEFAULT_STORE
from nas.executors.workers import Workers
from nas.validation.settings import ValidationSettings


def mount(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(validate)


@with_settings(ValidationSettings)
@with_settings(Workers, into="workers")
def validate(
    study: StudyName,
    *,
    settings: Given,
    workers: Given,
    store: Store = DEFAULT_STORE,
    yes: Yes = False,
) -> None:
    """Show how far a study can be trusted: its proxy against training from scratch, its front against chance.

    Prints rank correlations and the gain in hypervolume with their 95 % intervals; the report shows them too.
    Can be stopped and repeated.
    """
    from nas.commands.consent import with_consent
    from nas.progress import Terminal
    from nas.study.study import Study, open_study
    from nas.validation.validate import lines_of, validate_study

    wanted, pool, terminal = ValidationSettings(**settings), Workers(**workers), Terminal()
    pool.check(say=terminal.say)
    work_on(study)
    opened = open_study(study, store, read_only=False)
    if opened.space.digest != opened.record.space_digest:  # constraints in code are not in the store
        opened = Study(opened.store, opened.record, opened.reloaded_space())
    run = partial(validate_study, opened, wanted, pool, terminal)
    for line in lines_of(opened, with_consent(lambda agreed: run(yes=agreed), yes)):
        print_line(line)
