"""Samplers of OptunaHub's kind from a local registry, by the real library; consent to their code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import nas
from foundation.errors import ConsentNeeded, SettingError, UnknownName
from nas.cli import app
from nas.strategies import foreign
from nas.strategies.base import make_strategy, strategies
from nas.strategies.optunahub import _loaded
from tests.nas.test_strategy_contracts import GOALS, SPACE, play
from tests.nas.toys import rich, small, toy_space

pytest.importorskip("optunahub")

COUNTING = '''
"""A sampler that remembers how many outcomes it heard, in the process only."""
import optuna


class Counting(optuna.samplers.RandomSampler):
    """Random answers, with a count of what was heard."""

    def __init__(self, seed=None, limit: int = 5):
        """Args: limit."""
        super().__init__(seed=seed)
        if limit < 1:
            raise ValueError("limit must be\\nat least 1")
        self.limit, self.heard = limit, []

    def after_trial(self, study, trial, state, values):
        self.heard.append((state.name, values))
'''


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Path]:
    """A folder like OptunaHub's registry, with packages of one, two and no samplers, and a broken one."""
    packages = {
        "counting": COUNTING,
        "two": f"{COUNTING}\n\nclass Second(Counting):\n    pass\n",
        "none": "X = 1\n",
        "broken": "raise RuntimeError('no\\ngood')\n",
    }
    for name, code in packages.items():
        folder = tmp_path / "package" / "samplers" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(code)
    before = set(sys.modules)
    yield tmp_path / "package" / "samplers"
    foreign._agreed.clear()
    _loaded.cache_clear()
    for name in set(sys.modules) - before:
        if name.startswith("optunahub_registry"):
            del sys.modules[name]


def agreed(registry: Path, package: str) -> str:
    name = f"optunahub:{registry}/{package}"
    foreign.require_consent(name, yes=True)
    return name


def test_nothing_is_run_without_consent(registry: Path, tmp_path: Path) -> None:
    name = f"optunahub:{registry}/broken"
    with pytest.raises(ConsentNeeded, match="runs with all your rights: read it first, or insist with"):
        strategies[name]
    with pytest.raises(ConsentNeeded):
        nas.search(toy_space(), name="s", objectives=[small], strategy=name, store=tmp_path / "s.db")
    assert not (tmp_path / "s.db").exists()
    with pytest.raises(SettingError, match="raised RuntimeError"):
        strategies[agreed(registry, "broken")]


def test_a_sampler_of_a_folder_searches_and_hears_all_that_went_before(
    registry: Path, tmp_path: Path
) -> None:
    def search(trials: int) -> nas.OpenStudy:
        return nas.search(
            toy_space(),
            name="s",
            objectives=[small, rich],
            strategy=f"optunahub:{registry}/counting",
            settings={"limit": 7},
            trials=trials,
            finalists=0,
            store=tmp_path / "s.db",
            progress=False,
            yes=True,
        )

    search(4)
    foreign._agreed.clear()
    with pytest.raises(ConsentNeeded):
        nas.open("s", store=tmp_path / "s.db").resume(trials=6, progress=False)
    trials = search(6).trials()
    assert len({trial.digest for trial in trials}) == 6
    strategy: Any = make_strategy(agreed(registry, "counting"), SPACE, GOALS, seed=0, settings={"limit": 7})
    for trial in trials:
        strategy.tell(trial)
    strategy.ask(6)
    sampler = strategy.sampler(6)
    assert sampler.limit == 7
    assert sampler is strategy.sampler(9)
    assert [state for state, _ in sampler.heard[:6]] == ["COMPLETE"] * 6
    assert sampler.heard[0][1] == [trials[0].values["small"].value, trials[0].values["rich"].value]


def test_a_class_is_chosen_where_there_are_several(registry: Path) -> None:
    two = f"optunahub:{registry}/two"
    for name in (two, f"{two}:Second", f"{two}:Secnd"):
        foreign.require_consent(name, yes=True)
    with pytest.raises(UnknownName, match="which sampler\\? add one of :Counting, :Second"):
        strategies[two]
    with pytest.raises(UnknownName, match="did you mean 'Second'"):
        strategies[f"{two}:Secnd"]
    strategy = make_strategy(f"{two}:Second", SPACE, GOALS, seed=0, settings={})
    assert len({trial.digest for trial in play(strategy, 20)}) == 20


@pytest.mark.parametrize(
    ("package", "settings", "says"),
    [
        ("none", {}, "the package holds no sampler"),
        ("nowhere", {}, "is no package"),
        ("counting", {"limt": 3}, "did you mean 'limit'"),
        ("counting", {"limit": 0}, "limit must be at least 1"),
        ("counting@a@b", {}, "write it like optunahub:samplers/auto_sampler"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    registry: Path, package: str, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(SettingError) as error:
        make_strategy(agreed(registry, package), SPACE, GOALS, seed=0, settings=settings)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_the_command_line_refuses_where_nobody_can_be_asked(registry: Path) -> None:
    name = f"optunahub:{registry}/counting"
    refused = CliRunner().invoke(app, ["strategies", name])
    assert isinstance(refused.exception, ConsentNeeded)
    shown = CliRunner().invoke(app, ["strategies", name, "--yes"])
    assert "Random answers, with a count of what was heard." in shown.output
    assert "--setting limit=5" in shown.output
    kind = strategies[name]
    assert "may go on otherwise after a stop" in kind.remark(kind.settings_kind(), 10)
