"""What the layer above offers, found through entry points, so that nothing here imports it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

REPORTS = "nas.reports"
FIGURES = "nas.figures"


def report_writer() -> Callable[..., Path] | None:
    """The installed function that writes a study's report, if there is one: `write(study, path=None)`."""
    for entry in entry_points(group=REPORTS):
        writer: Callable[..., Path] = entry.load()
        return writer
    return None


def figure_maker() -> Callable[..., Any] | None:
    """The installed function that draws a figure of a study, if there is one: `draw(study, name)`."""
    for entry in entry_points(group=FIGURES):
        maker: Callable[..., Any] = entry.load()
        return maker
    return None
