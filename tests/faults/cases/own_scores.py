"""Stored studies whose score is that of a task which only their source defines: all that reads knows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.dashboards.test_report import Reader
from tests.faults.campaign import Case
from tests.faults.cases.reports import page
from tests.faults.stored import copied, made_studies, sql
from tests.forks import Ended

TASK: dict[str, Any] = {"name": "keyed", "unit": "nats per value", "length": 64, "windows": 64}
SCORE: dict[str, Any] = {"unit": "share of wrong values", "about": "wrong", "maximise": False, "task": TASK}


def recorded(score: dict[str, Any] | None) -> Callable[[Path], None]:
    """The studies with `keyed_error` in place of bits per byte, and this on its record."""
    renamed = "replace({0}, 'bits_per_byte', 'keyed_error')"
    objectives = json.dumps({} if score is None else {"keyed_error": score})
    return sql(
        f"UPDATE studies SET config_json = {renamed.format('config_json')}",
        f"UPDATE trials SET values_json = {renamed.format('values_json')}",
        f"UPDATE studies SET config_json = json_set(config_json, '$.objectives', json('{objectives}'))",
    )


studies = copied(made_studies, recorded(SCORE))


def both_pages(folder: Path, ended: Ended) -> None:
    text = Reader(next(folder.rglob("compare.html")).read_text()).text
    assert "keyed error (share of wrong values)" in text
    assert "Hollow marks" in text


MALFORMED = {
    "no object": {**SCORE, "task": 3},
    "empty": {**SCORE, "task": {}},
    "one without a name": {**SCORE, "task": {**TASK, "name": ""}},
    "one of windows of no tokens": {**SCORE, "task": {**TASK, "length": 0}},
    "one with a number for its unit": {**SCORE, "task": {**TASK, "unit": 3}},
    "one of minus one window": {**SCORE, "task": {**TASK, "windows": -1}},
}

CASES = [
    Case(
        "own score: the report says what was trained, in the unit of the task",
        "report laptop -o r.html",
        code=0,
        prepare=studies,
        check=page(
            (
                "Trained from scratch",
                "scored by",
                "Keyed error (share of wrong values) after training from scratch",
                "nas validate laptop",
                "nas export laptop",
            ),
            ("no quality objective", "its per byte"),
        ),
        seconds=10,
    ),
    Case(
        "own score: a record that names no task stays readable",
        "report laptop -o r.html",
        code=0,
        prepare=copied(made_studies, recorded({k: v for k, v in SCORE.items() if k != "task"})),
        check=page(("The front", "Next commands")),
        seconds=10,
    ),
    Case(
        "own score: a record of before objectives were described stays readable",
        "report laptop -o r.html",
        code=0,
        prepare=copied(made_studies, recorded(None)),
        check=page(("The front", "Next commands")),
        seconds=10,
    ),
    Case(
        "own score: show",
        "show second 3",
        code=0,
        says="keyed_error",
        prepare=studies,
    ),
    Case("own score: ls", "ls", code=0, says="keyed_error", prepare=studies),
    Case("own score: front", "front laptop", code=0, says="keyed_error", prepare=studies),
    Case("own score: best", "best laptop -o keyed_error", code=0, says="keyed_error", prepare=studies),
    Case(
        "own score: compare",
        "compare laptop second",
        code=0,
        says="",
        prepare=studies,
        check=both_pages,
        seconds=15,
    ),
    *(
        Case(
            f"own score: a task on record that is {what}",
            "report laptop -o r.html",
            says="objectives of study laptop cannot be read: ",
            prepare=copied(made_studies, recorded(score)),
        )
        for what, score in MALFORMED.items()
    ),
]
