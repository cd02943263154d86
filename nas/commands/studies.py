"""Commands that move studies as a whole: cp, mv, merge, rm."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from foundation.errors import SettingError
from foundation.text import listed, one_line
from nas.commands.groups import RESULTS
from nas.commands.options import Store, StudyName
from nas.commands.output import print_line
from nas.default_paths import DEFAULT_STORE


def mount(app: typer.Typer) -> None:
    """Add these commands."""
    app.command(name="cp", rich_help_panel=RESULTS)(copy)
    app.command(name="mv", rich_help_panel=RESULTS)(move)
    app.command(rich_help_panel=RESULTS)(merge)
    app.command(name="rm", rich_help_panel=RESULTS)(remove)


def copy(
    study: StudyName,
    new: Annotated[
        str | None, typer.Argument(help="Name of the copy.", show_default="the same, in another store")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="STORE", help="The store to copy to.", show_default="the same"),
    ] = None,
    store: Store = DEFAULT_STORE,
) -> None:
    """Copy a study with all its files: trials, measurements, tables, checkpoints, report.

    The copy can be resumed on its own. A study that is being searched is refused.
    """
    from nas.store import Store as Opened
    from nas.store.moving import copy_study

    if new is None and to is None:
        raise SettingError("name the copy, or say with --to which store it goes to")
    if new == "" or to == "":
        raise SettingError(f"{'the name of the copy' if new == '' else '--to'} must not be empty")
    with Opened(store, read_only=True) as source:
        source.require(study)  # a name that there is not makes no new store
        with Opened(to or store) as target:
            folder = copy_study(source, study, target, new or study)
            print_line(f"study {new or study} in {target.url}, its files in {folder}")


def move(
    study: StudyName,
    new: Annotated[str, typer.Argument(help="Its new name.", show_default=False)],
    store: Store = DEFAULT_STORE,
) -> None:
    """Give a study another name, with all its files. A study that is being searched is refused.

    Example: nas mv first laptop-2026
    """
    from nas.store.moving import move_study

    with _existing(store) as opened:
        folder = move_study(opened, study, new)
    print_line(f"study {study} is now {new}, its files in {folder}")


def merge(
    studies: Annotated[
        list[str], typer.Argument(help="Names of studies; `nas ls` lists them.", show_default=False)
    ],
    into: Annotated[str, typer.Option(help="Name of the new study.", show_default=False)],
    store: Store = DEFAULT_STORE,
) -> None:
    """Make one study of several: a new one with all their trials, measurements and files.

    They must be over one space, and their scores mean the same: the same text, recipe, shared weights
    (`--supernet`) and latency tables. How they searched (engine, strategy, seed) may differ; the new study
    has the settings of the first, and goes on like any other. The others stay as they are.

    Example: nas merge monday tuesday --into both
    """
    from nas.study.merging import merge as merged

    with _existing(store) as opened:
        folder = merged(opened, studies, into)
    print_line(f"study {into} has the trials of {listed(studies)}, its files in {folder}")


def remove(
    study: StudyName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: Store = DEFAULT_STORE,
) -> None:
    """Remove a study with all its files. A study that is being searched is refused."""
    from nas.store.moving import folder_of, remove_study

    with _existing(store) as opened:
        folder = folder_of(opened, study)
        if opened.holds(study) and not yes and not _agreed(study, str(folder or "")):
            raise SettingError(f"study {study} was not removed: say yes, or --yes")
        removed = remove_study(opened, study)
    print_line(f"study {study} is removed" + (f", and {removed}" if removed else ""))


def _existing(store: str) -> Any:
    """A store, opened for writing; one that there is not is refused, not made."""
    from nas.store import Store as Opened

    Opened(store, read_only=True).close()
    return Opened(store)


def _agreed(study: str, folder: str) -> bool:
    """Ask at a terminal; elsewhere nobody can agree."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(f"remove study {one_line(study)} with all its trials and {folder or 'no files'}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
