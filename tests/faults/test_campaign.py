"""Every case of the campaign ends as it must: see `tests.faults.campaign`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.campaign import Case, all_cases, run_case


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name, marks=[pytest.mark.slow] * case.slow) for case in all_cases()],
)
def test_fault(case: Case, tmp_path: Path) -> None:
    run_case(case, tmp_path)
