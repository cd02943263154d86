"""Options that several commands share, and that are no settings of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def path_of(text: str) -> Path:
    """The path of an option or argument; an empty one, which is refused, would be the current folder."""
    if not text:
        raise typer.BadParameter("a path must not be empty.")
    return Path(text)


def _check_store(text: str) -> str:
    """Refuse a store whose studies would be lost with the command."""
    from nas.store.location import IN_MEMORY, parse_location

    location = parse_location(text)
    if location.get_backend_name() == "sqlite" and location.database in IN_MEMORY:
        raise typer.BadParameter("a store in memory would be lost with this command: name a file.")
    return text


PATH: Any = {"parser": path_of, "metavar": "PATH"}
"""How an option or argument that is a path is read."""

SpaceName = Annotated[
    str, typer.Argument(help="A ready-made space (`nas spaces`), or FILE.py[:NAME].", show_default=False)
]
SourceFile = Annotated[
    str | None,
    typer.Option(
        "--space",
        metavar="FILE.py[:NAME]",
        help="The file that the study was begun with, where its own copy is missing.",
        show_default=False,
    ),
]
KeepSource = Annotated[
    bool,
    typer.Option("--keep-source", help="Continue with the source it was begun with, though that was edited."),
]
Store = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="NAS_STORE",
        help="SQLite file, or any SQLAlchemy URL (PostgreSQL).",
        callback=_check_store,
    ),
]
RayAddress = Annotated[
    str | None, typer.Option("--ray", metavar="ADDRESS", help="Address of a Ray cluster.", show_default=False)
]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes", "-y", help="Begin without asking, however long it will take and whoever wrote the strategy."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
StudyName = Annotated[str, typer.Argument(help="Name of a study; `nas ls` lists them.", show_default=False)]
TrialName = Annotated[
    str, typer.Argument(help="A trial's number, the beginning of its digest, or `best`.", show_default=False)
]
NetworkName = Annotated[
    str, typer.Argument(help="A study, zoo:NAME (`nas zoo`), or an exported folder.", show_default=False)
]
OfStudy = Annotated[
    str | None, typer.Argument(help="Of a study: a trial's number, the beginning of its digest, or `best`.")
]
TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="Run the blocks of its own that the folder holds as Python.")
]
DraftLine = Annotated[
    str | None,
    typer.Option(
        "--draft",
        metavar="NAME[,SETTING=VALUE...]",
        help="What proposes tokens for the network to verify; `nas drafts` lists it.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="The folder to write: an exported model.", show_default=False, **PATH
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a model exported there before.")]
