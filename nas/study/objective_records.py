"""Objectives on a study's record: what reads it must know of those that only its source defines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from foundation.fields import Field
from nas.objectives.base import Objective, objectives

OBJECTIVES = "objectives"
"""Their name in a record."""


def described_objectives(names: Iterable[str]) -> dict[str, Any]:
    """What a record says of the registered ones among these."""
    known = {name: objectives[name] for name in names if name in objectives}
    return {
        name: {"unit": objective.unit, "about": objective.about, "maximise": objective.maximise}
        for name, objective in known.items()
    }


def known_objective(name: str, config: Mapping[str, Any]) -> Objective:
    """The objective of a name: the registered one, else as the record has it, else a function's name.

    Raises:
        FileError: the record is malformed.
    """
    if name in objectives:
        return objectives[name]
    field = Field(config).get(OBJECTIVES, {})
    if name not in field.names():
        return Objective(name=name, unit="", about="the user's own")
    about = field[name]
    return Objective(
        name=name,
        unit=about["unit"].text(least=0),
        about=about["about"].text(least=0, most=1000),
        maximise=about["maximise"].flag(),
    )
