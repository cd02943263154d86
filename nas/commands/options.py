"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from search_spaces.scenario import Scenario

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
OnDevice = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="DEVICE",
        help="Time on this device of a Ray cluster (resource 'device:DEVICE') instead of here.",
    ),
]
Batch = Annotated[int, typer.Option("--batch-tasks", min=1, help="Candidates per message to a Ray actor.")]
Gpus = Annotated[float, typer.Option("--gpus", min=0.0, help="Share of a GPU that each Ray actor holds.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
StudyName = Annotated[str, typer.Argument(help="Name of a study; `nas ls` lists them.", show_default=False)]
TrialName = Annotated[
    str, typer.Argument(help="A trial's number, or the beginning of its digest.", show_default=False)
]
Scenarios = Annotated[
    list[str] | None,
    typer.Option(
        "--scenario",
        help="How the network will be used: 'cpu,batch=1,prompt=256,new=64'. Repeat it for several, each with"
        " a name: 'chat=cuda:0,batch=1,prompt=512,new=128'; they are separate objectives.",
    ),
]


def parse_scenarios(texts: list[str] | None) -> list[Scenario]:
    """The scenarios of a command line; one on the CPU where none is given.

    Raises:
        SettingError: one cannot be read, or its runtime does not exist or cannot run it.
    """
    from hw_profiles.runtimes.base import check_scenario  # torch takes seconds to import

    scenarios = [Scenario.parse(text) for text in texts or ["cpu"]]
    for scenario in scenarios:
        check_scenario(scenario)
    return scenarios
