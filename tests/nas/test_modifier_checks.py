"""Published methods of adaptation and compression against their references."""

from __future__ import annotations

import math

import pytest

from nas import cli
from nas.modifier_checks.base import Measured, SystemCheck, checks, good

ALONE = [name for name, kind in checks.items() if not kind.needs]


@pytest.mark.parametrize("name", ALONE)
def test_a_method_equals_its_formula(name: str) -> None:
    check = checks[name]()
    assert good(check, check.measure())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in checks if name not in ALONE])
def test_a_method_equals_its_library(name: str) -> None:
    check = checks[name]()
    if check.missing:
        pytest.skip(f"not installed: {', '.join(check.missing)}")
    assert good(check, check.measure())


@pytest.mark.parametrize(
    ("found", "passed"),
    [(Measured(0.0, 3, 3), True), (Measured(0.0, 3, 4), False), (Measured(math.nan, 3, 3), False)],
)
def test_a_check_needs_both_a_small_deviation_and_equal_counts(found: Measured, passed: bool) -> None:
    assert good(checks["magnitude"](), found) == passed


def test_a_line_for_each_method(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in checks.values():
        monkeypatch.setattr(kind, "measure", lambda self: Measured(0.0, 1, 1))
    monkeypatch.setattr(checks["lora"], "needs", ("no_such_library",))
    assert cli.run(["modifiers", "--check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(checks) + 1
    assert any("skipped  not installed: no_such_library" in line for line in lines)
    monkeypatch.setattr(checks["wanda"], "measure", lambda self: Measured(1.0, 1, 1))
    assert cli.run(["modifiers", "--check"]) != 0
    assert "these methods failed: wanda" in capsys.readouterr().err
    assert cli.run(["modifiers", "prune", "--check"]) == cli.REFUSED


def test_every_check_says_what_it_is_held_against() -> None:
    for kind in checks.values():
        assert issubclass(kind, SystemCheck)
        assert kind.reference
        assert kind.tolerance >= 0
        assert (kind.__doc__ or "").strip()
