"""What a strict type checker says of a user's program that calls `nas.search`."""

from __future__ import annotations

from pathlib import Path

from mypy import api

RIGHT = """
import nas
from search_spaces import Scenario, Space


def front(space: Space) -> list[str]:
    study = nas.search(
        space,
        name="first",
        objectives=["bits_per_byte", lambda spec: 1.0],
        scenarios=[Scenario(prompt=512, name="chat"), Scenario(batch=8, name="bulk")],
        trials=20,
        finalist_steps=(10, 30),
        settings={"start": 8},
        workers=nas.Workers(2),
        store="studies.db",
    )
    return [trial.digest for trial in study.front()]
"""
WRONG = """
import nas
from search_spaces import Space


def wrong(space: Space) -> None:
    nas.search(space, name="a", trials="many")
    nas.search(space, name="b", trails=3)
    nas.search(space, name="c", finalist_steps=100)
    nas.search(space, name=4)
"""


CONFIGURATION = """
[mypy]
strict = True
follow_imports = silent
[mypy-torch.*,numpy.*,scipy.*,sqlalchemy.*,alembic.*,optuna.*,ray.*,typer.*,rich.*,safetensors.*]
follow_imports = skip
ignore_missing_imports = True
"""
"""Libraries are skipped: to analyse them takes minutes, and `search` has no argument of their types."""


def test_a_type_checker_accepts_right_calls_and_names_wrong_ones(tmp_path: Path) -> None:
    config, right, wrong = (tmp_path / name for name in ("mypy.ini", "right.py", "wrong.py"))
    config.write_text(CONFIGURATION)
    right.write_text(RIGHT)
    wrong.write_text(WRONG)
    options = ["--config-file", str(config), "--cache-dir", str(tmp_path / "cache")]
    report, crash, _ = api.run([*options, str(right), str(wrong)])
    assert not crash
    errors = [line for line in report.splitlines() if ": error:" in line]
    assert not [line for line in errors if "right.py" in line], report
    assert [line.split(":")[1] for line in errors] == ["7", "8", "9", "10"], report
    assert 'Unexpected keyword argument "trails"' in report
