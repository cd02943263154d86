"""What the layer above offers, found through entry points, so that nothing here imports it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

REPORTS = "nas.reports"


def report_writer() -> Callable[..., Path] | None:
    """The installed function that writes a study's report, if there is one: `write(study, path=None)`."""
    for entry in entry_points(group=REPORTS):
        writer: Callable[..., Path] = entry.load()
        return writer
    return None
