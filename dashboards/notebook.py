"""Figures of a study for a notebook: `study.figure("front")`."""

from __future__ import annotations

from typing import Any

from dashboards.facts import read_facts
from dashboards.figures import figures
from nas.study.study import Study


def study_figure(study: Study, name: str) -> Any:
    """One of the report's figures.

    Raises:
        UnknownName: there is no such figure.
    """
    draw = figures[name]
    return draw(read_facts(study))
