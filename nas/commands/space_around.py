"""The command that writes a space around a trained network: space-around."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.commands.groups import SEARCH
from nas.commands.options import PATH
from nas.commands.options_from_settings import Given, with_settings
from nas.commands.output import print_line
from search_spaces.alternatives import Alternatives


def mount(app: typer.Typer) -> None:
    """Add this command."""
    app.command(name="space-around", rich_help_panel=SEARCH)(space_around_parent)


@with_settings(Alternatives)
def space_around_parent(
    parent: Annotated[
        Path,
        typer.Argument(
            help="A trained network: a folder that `nas import` or `nas export` wrote.",
            show_default=False,
            **PATH,
        ),
    ],
    *,
    settings: Given,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write; without it, the space is printed.", **PATH),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a space around a trained network, as a Python file to edit.

    It has the network's own layers and what may stand in their place; `nas search FILE` then searches it with
    the network's weights.

    Example: nas space-around parent -o around.py --bits 8,4,3 --windows 256 --skip
    """
    from nas.parents import space_around

    text = space_around(parent, Alternatives(**settings), output, force=force)
    print_line(text if output is None else f"written to {output}; `nas search {output}` searches it")
