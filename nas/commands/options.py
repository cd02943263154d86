"""Options that several commands share, and that are no settings of a study."""

from __future__ import annotations

from typing import Annotated

import typer

WORKERS = "Workers"
"""The heading of options about where the work is done."""

SpaceName = Annotated[
    str, typer.Argument(help="A ready-made space (`nas spaces`), or FILE.py[:NAME].", show_default=False)
]
Store = Annotated[
    str,
    typer.Option("--store", envvar="NAS_STORE", help="SQLite file, or any SQLAlchemy URL (PostgreSQL)."),
]
WorkerCount = Annotated[
    int,
    typer.Option(
        "--workers",
        "-w",
        min=0,
        help="Ray actors that score candidates; 0: in this process.",
        rich_help_panel=WORKERS,
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray", help="Address of a Ray cluster; without one, Ray starts here.", rich_help_panel=WORKERS
    ),
]
Batch = Annotated[
    int,
    typer.Option(
        "--batch-tasks", min=1, help="Candidates per message to a Ray actor.", rich_help_panel=WORKERS
    ),
]
Gpus = Annotated[
    float,
    typer.Option(
        "--gpus", min=0.0, help="Share of a GPU that each Ray actor holds.", rich_help_panel=WORKERS
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
StudyName = Annotated[str, typer.Argument(help="Name of a study; `nas ls` lists them.", show_default=False)]
TrialName = Annotated[
    str, typer.Argument(help="A trial's number, or the beginning of its digest.", show_default=False)
]
