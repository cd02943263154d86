"""The rows of several studies as those of one.

Trials are numbered anew: within each stage those of the second study come after those of the first, and so
on, and what names trials by number (parents, trials that answered others, those in which a candidate began)
follows. The outcomes of several searches have no single order, so none is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from foundation.errors import StoreError
from nas.store.records import StudyRows
from nas.store.rows import config_text
from nas.study.trial import CANDIDATE, PARENTS

Row = Mapping[str, Any]


def merged_rows(studies: Sequence[StudyRows], config: Mapping[str, Any]) -> StudyRows:
    """One study with this configuration over the space of the first; every trial and measurement is kept.

    Raises:
        StoreError: the record of a trial is malformed.
    """
    trials: list[Row] = []
    for study in studies:
        first = _next_numbers(trials)
        trials += [
            {**_moved(row, first.get(row["stage"], 0)), "revision": revision}
            for revision, row in enumerate(sorted(study.trials, key=_place), len(trials) + 1)
        ]
    measurements = [row for study in studies for row in study.measurements]
    measurements.sort(key=lambda row: row["created"] if isinstance(row["created"], (int, float)) else 0)
    return StudyRows({**studies[0].study, "config_json": config_text(config)}, trials, measurements)


def _place(row: Row) -> tuple[str, int]:
    return row["stage"], row["number"]


def _next_numbers(trials: Iterable[Row]) -> dict[str, int]:
    """By stage, a number above all those taken."""
    numbers: dict[str, int] = {}
    for row in trials:
        numbers[row["stage"]] = max(numbers.get(row["stage"], 0), row["number"] + 1)
    return numbers


def _moved(row: Row, by: int) -> dict[str, Any]:
    """A trial whose number, and those that it names, are higher by so many."""
    try:
        memo = json.loads(row["memo_json"])
        if PARENTS in memo:
            memo[PARENTS] = [parent + by for parent in memo[PARENTS]]
        if CANDIDATE in memo:
            memo[CANDIDATE] += by
        reused = None if row["reused"] is None else row["reused"] + by
        moved = {"number": row["number"] + by, "reused": reused, "heard": None, "told": None}
    except (TypeError, ValueError) as error:
        raise StoreError(f"{row['stage']} trial {row['number']} cannot be read: {error}") from None
    return {**row, **moved, "memo_json": json.dumps(memo, separators=(",", ":"))}
