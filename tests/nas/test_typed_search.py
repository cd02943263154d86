"""What a strict type checker says of a user's program that calls `nas.search`."""

from __future__ import annotations

from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parents[2]

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
        rungs=(10, 30),
        strategy_settings={"population": 8},
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
    nas.search(space, name="c", rungs=100)
    nas.search(space, name=4)
"""


@pytest.mark.slow
def test_a_type_checker_accepts_right_calls_and_names_wrong_ones(tmp_path: Path) -> None:
    said = {}
    for name, text in (("right", RIGHT), ("wrong", WRONG)):
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        config = ("--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache"))
        said[name], errors, _ = api.run([*config, str(path)])
        assert not errors
    assert said["right"].startswith("Success"), said["right"]
    lines = said["wrong"].splitlines()
    assert [line.split(":")[1] for line in lines if ": error:" in line] == ["7", "8", "9", "10"], lines
    assert 'Unexpected keyword argument "trails"' in said["wrong"]
