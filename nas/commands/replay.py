"""The command that shows that a search can be repeated: replay."""

from __future__ import annotations

from functools import partial

import typer

from nas.commands.groups import RESULTS
from nas.commands.options import SourceFile, Store, StudyName, Yes
from nas.commands.output import print_line
from nas.default_paths import DEFAULT_STORE


def mount(app: typer.Typer) -> None:
    """Add this command."""
    app.command(rich_help_panel=RESULTS)(replay)


def replay(
    study: StudyName, space: SourceFile = None, store: Store = DEFAULT_STORE, yes: Yes = False
) -> None:
    """Derive every proposal of a search again, and compare it with the record. Nothing is scored.

    What a strategy proposes follows from the space, the seed and the outcomes that it had heard, whose order
    is on record, also where several workers finished in an order of their own. Exit code 1 where a proposal
    differs: the code of the space or of the strategy has changed since, or depends on something else.

    Example: nas replay first
    """
    from nas.commands.consent import with_consent
    from nas.progress import Terminal
    from nas.strategies.foreign import require_consent
    from nas.study.open_study import open_study

    opened = open_study(study, store, read_only=False)
    with_consent(partial(require_consent, opened.plan.strategy), yes)
    replayed = opened.replay(space=space, progress=Terminal())
    print_line(f"study {study}: {replayed}")
    if replayed.differs:
        raise typer.Exit(1)
