"""Options that several commands share, and that are no settings of a study."""

from __future__ import annotations

from typing import Annotated

import typer

SpaceName = Annotated[
    str, typer.Argument(help="A ready-made space (`nas spaces`), or FILE.py[:NAME].", show_default=False)
]
Store = Annotated[
    str,
    typer.Option("--store", envvar="NAS_STORE", help="SQLite file, or any SQLAlchemy URL (PostgreSQL)."),
]
RayAddress = Annotated[
    str | None, typer.Option("--ray", metavar="ADDRESS", help="Address of a Ray cluster.", show_default=False)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Begin without asking, however long it will take.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
StudyName = Annotated[str, typer.Argument(help="Name of a study; `nas ls` lists them.", show_default=False)]
TrialName = Annotated[
    str, typer.Argument(help="A trial's number, or the beginning of its digest.", show_default=False)
]
