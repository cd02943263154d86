"""Studies become one where their scores mean the same, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import nas
from foundation.errors import SettingError, StoreError, UnknownName
from nas.cli import run as command
from nas.store import Store
from nas.study.facts import SUPERNET, TABLES, add_fact
from nas.study.open_study import OpenStudy
from nas.study.trial import CANDIDATE
from tests.nas.toys import rich, small, toy_space


def searched(folder: Path, name: str, **settings: Any) -> OpenStudy:
    plan = {"trials": 20, "finalists": 0, "strategy": "random", "objectives": [small, rich], **settings}
    return nas.search(toy_space(), name=name, store=folder / "s.db", progress=False, **plan)


def test_a_merged_study_has_the_front_of_both_and_goes_on(tmp_path: Path) -> None:
    one, two = searched(tmp_path, "one"), searched(tmp_path, "two", seed=1, strategy="nsga2")
    both = one.merge("two", into="both")
    assert len(both.trials()) == 40
    assert both.plan.trials == 40
    digests = {t.digest for study in (one, two) for t in study.front()}
    assert {t.digest for t in both.front()} <= digests
    searched(tmp_path, "both", trials=50)
    again = nas.open("both", tmp_path / "s.db")
    assert len(again.trials()) == 50
    with pytest.raises(SettingError, match="several searches were merged"):
        again.replay(progress=False)


def test_what_is_trained_further_counts_once(tmp_path: Path) -> None:
    one = searched(tmp_path, "one")
    searched(tmp_path, "two", seed=1)
    first = one.trials()[0]
    further = replace(first, number=20, memo={CANDIDATE: first.number}, told=20, heard=20)
    with Store(tmp_path / "s.db") as store:
        store.save(one.record, [further])
    both = nas.open("one", tmp_path / "s.db").merge("two", into="both")
    assert (len(both.trials()), both.plan.trials) == (41, 40)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["one"], "at least two"),
        (["one", "one"], "each once"),
        (["one", "steps"], "train_steps=250 and train_steps=300"),
        (["one", "narrow"], "objectives=.* and objectives="),
        (["one", "weights"], "their shared weights differ"),
        (["one", "timed"], "their latency tables differ"),
    ],
)
def test_what_cannot_be_merged_is_refused(names: list[str], says: str, tmp_path: Path) -> None:
    searched(tmp_path, "one")
    searched(tmp_path, "steps", train_steps=300)
    searched(tmp_path, "narrow", objectives=[small])
    add_fact(searched(tmp_path, "weights"), SUPERNET, {"loss": [[0, 1.0]]})
    add_fact(searched(tmp_path, "timed"), TABLES, {"": {"reference_ms": 1.0}})
    first = nas.open(names[0], tmp_path / "s.db")
    with pytest.raises(SettingError, match=says):
        first.merge(*names[1:], into="new")
    with pytest.raises(UnknownName, match="did you mean 'timed'"):
        first.merge("time", into="new")
    assert not (tmp_path / "new").exists()


def test_names_are_checked_and_commands_say_what_was_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = searched(tmp_path, "one")
    searched(tmp_path, "two", seed=1)
    with pytest.raises(StoreError, match="there is a study 'two'"):
        one.merge("two", into="two")
    with pytest.raises(SettingError, match="letters, digits"):
        one.rename("a/b")
    store = ("--store", str(tmp_path / "s.db"))
    assert command(["merge", "one", "two", "--into", "both", *store]) == 0
    assert "study both has the trials of one and two" in capsys.readouterr().out
    assert command(["mv", "both", "all", *store]) == 0
    assert "study both is now all" in capsys.readouterr().out
    assert one.rename("first").name == "first"
    assert {study.name for study in nas.open("all", tmp_path / "s.db").store.studies()} == {
        "all",
        "first",
        "two",
    }
