"""Every case of the campaign ends as it must: see `tests.faults.campaign`.

`make faults` runs all of them. `make test` runs every sixteenth quick one, which are of all kinds.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.campaign import Case, all_cases, run_case

SAMPLE = 16
"""One of so many cases runs in the fast part."""

CASES = [
    pytest.param(case, id=case.name, marks=[pytest.mark.slow] * (case.slow or place % SAMPLE != 0))
    for place, case in enumerate(all_cases())
]


@pytest.mark.parametrize("case", CASES)
def test_fault(case: Case, tmp_path: Path) -> None:
    run_case(case, tmp_path)
