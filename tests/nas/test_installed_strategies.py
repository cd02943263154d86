"""Strategies of installed packages: real distributions on `sys.path`, found through their metadata."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nas
from foundation.errors import SettingError, UnknownName
from nas.strategies.base import strategies
from nas.study.trial import PARENTS
from tests.nas.toys import rich, small, toy_space

CODE = """
from nas.strategies.base import Proposal, Strategy
from nas.study.trial import PARENTS


class FirstAnswer(Strategy):
    '''The first answer to every question, and the last of one.'''

    name = "first-answer"
    use = "to see that a package is found"

    def propose(self, number, dice):
        last = dice.choice([gene.path for gene in self.space.genes])
        genotype, spec = self.space.draw(lambda path, labels: labels[-1 if path == last else 0])
        return Proposal(genotype, {PARENTS: []}, spec)


class Other(FirstAnswer):
    name = "another-name"


def no_class():
    pass
"""

ENTRIES = """[nas.strategies]
first-answer = outside_strategies:FirstAnswer
misnamed = outside_strategies:Other
function = outside_strategies:no_class
missing = outside_strategies:Missing
broken = outside_broken:Anything
nsga2 = outside_broken:Anything
"""

BROKEN = {
    "misnamed": "calls itself 'another-name': both must be the same",
    "function": "must be a class derived from nas.strategies.base.Strategy",
    "missing": "has no attribute 'Missing'",
    "broken": "raised RuntimeError: it cannot be imported",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A distribution as pip leaves it: modules, and a `dist-info` with its entry points."""
    site = tmp_path / "site"
    info = site / "outside-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    (site / "outside_strategies.py").write_text(CODE)
    (site / "outside_broken.py").write_text("raise RuntimeError('it cannot be imported')\n")
    monkeypatch.syspath_prepend(site)
    assert "random" in strategies  # the project's own are there
    before = dict(strategies._things)
    yield site
    strategies._things = before
    for module in ("outside_strategies", "outside_broken"):
        sys.modules.pop(module, None)


def test_a_search_asks_a_strategy_of_a_package(package: Path, tmp_path: Path) -> None:
    assert "outside_strategies" not in sys.modules
    assert "first-answer" in strategies
    assert {"first-answer", "auto", "nsga2"} <= {*strategies}
    study = nas.search(
        toy_space(),
        name="s",
        objectives=[small, rich],
        strategy="first-answer",
        trials=5,
        finalists=0,
        store=tmp_path / "s.db",
        progress=False,
    )
    assert all(trial.memo == {PARENTS: []} for trial in study.trials())
    assert len(study.trials()) >= 5


@pytest.mark.parametrize("name", list(BROKEN))
def test_what_is_wrong_with_a_package_is_said_where_its_strategy_is_named(package: Path, name: str) -> None:
    with pytest.raises(SettingError) as error:
        strategies[name]
    assert f"the strategy {name} of outside (outside_" in str(error.value)
    assert BROKEN[name] in str(error.value)
    assert "\n" not in str(error.value)


def test_the_project_keeps_its_names(package: Path) -> None:
    assert strategies["nsga2"].__module__ == "nas.strategies.nsga2"
    assert "outside_broken" not in sys.modules


def test_without_the_package_the_name_is_unknown() -> None:
    with pytest.raises(UnknownName, match="first-answer"):
        strategies["first-answer"]


def test_the_command_line_lists_it_and_says_what_is_broken(package: Path) -> None:
    paths = os.pathsep.join([str(package), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", "from nas.cli import main; main()", "strategies"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = {line.partition(":")[0]: line for line in done.stdout.splitlines()}
    assert "The first answer to every question, and the last of one." in lines["first-answer"]
    assert "Use it to see that a package is found." in lines["first-answer"]
    assert "Use it where candidates are scored in milliseconds" in lines["nsga2"]
    for name, reason in BROKEN.items():
        assert reason in lines[name]
    assert done.returncode == 0
