"""Trials as a table of pandas, with the units of its columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from nas.study.trial import MEASURED, Trial, Value

ERROR = "_error"
"""What the name of a column of standard errors ends in."""


def row_of(trial: Trial, measured: Mapping[str, Value], *, on_front: bool) -> dict[str, Any]:
    """A row: what became of the trial, its numbers with their errors, its genes."""
    named = {**trial.values, **{f"{name}{MEASURED}": value for name, value in measured.items()}}
    return {
        "number": trial.number,
        "digest": trial.digest,
        "state": trial.state.value,
        "on_front": on_front,
        "seconds": None if trial.finished is None else trial.finished - trial.started,
        "reason": trial.reason,
        **{name: value.value for name, value in named.items()},
        **{f"{name}{ERROR}": value.error for name, value in named.items() if value.error is not None},
        **trial.genotype.genes,
    }


def frame_of(rows: Sequence[Mapping[str, Any]], unit_of_number: Callable[[str], str]) -> pd.DataFrame:
    """The rows as a table; `attrs["units"]` has the unit of each column that has one."""
    frame = pd.DataFrame(rows)
    units = {column: _unit_of(column, unit_of_number) for column in map(str, frame.columns)}
    frame.attrs["units"] = {column: unit for column, unit in units.items() if unit}
    return frame


def _unit_of(column: str, unit_of_number: Callable[[str], str]) -> str:
    """The unit of a column; empty for what has none."""
    if column == "seconds":
        return "s"
    if unit := unit_of_number(column):  # the name of a score may itself end in what marks errors
        return unit
    name = column.removesuffix(ERROR).removesuffix(MEASURED)
    return unit_of_number(name) or ("J" if name.partition("@")[0].endswith("_joules") else "")
