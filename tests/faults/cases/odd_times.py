"""What goes wrong at odd times: before anything is stored, between two looks at a file, beside a process."""

from __future__ import annotations

from pathlib import Path

from tests.faults.campaign import Case
from tests.faults.situations import trained_study
from tests.faults.stored import copied
from tests.forks import Ended


def _nothing_scored(folder: Path, ended: Ended) -> None:
    from nas.study.study import open_study

    assert open_study("a", folder / "studies" / "studies.db").trials("validate") == []


CASES = [
    Case(
        "a validation on more networks than the space has",
        "validate a --networks 13",
        says="--networks 13 is more than the space has: it has only 12 ",
        prepare=copied(trained_study),
        check=_nothing_scored,
    ),
]
