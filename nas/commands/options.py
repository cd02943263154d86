"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Store = Annotated[
    str,
    typer.Option("--store", envvar="NAS_STORE", help="SQLite file, or any SQLAlchemy URL (PostgreSQL)."),
]
WorkerCount = Annotated[
    int, typer.Option("--workers", "-w", min=0, help="Ray actors that score candidates; 0: in this process.")
]
RayAddress = Annotated[
    str | None, typer.Option("--ray", help="Address of a Ray cluster; without one, Ray starts here.")
]
Batch = Annotated[int, typer.Option("--batch-tasks", min=1, help="Candidates per message to a Ray actor.")]
Gpus = Annotated[float, typer.Option("--gpus", min=0.0, help="Share of a GPU that each Ray actor holds.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
StudyName = Annotated[str, typer.Argument(help="Name of a study; `nas ls` lists them.", show_default=False)]
TrialName = Annotated[
    str, typer.Argument(help="A trial's number, or the beginning of its digest.", show_default=False)
]
