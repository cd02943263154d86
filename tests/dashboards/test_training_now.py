"""The pages say what trains just now, from notes that trainings leave in the folder of their study."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from dash import no_update

from dashboards.app.live_store import LiveStore, key_of
from dashboards.app.shell import Shell
from dashboards.app.training_now import MOST
from dashboards.pages.front import Front
from dashboards.pages.studies import Studies
from evaluators.training.live import FOLDER, OLD_SECONDS
from nas.store import Store
from tests.dashboards.made import make_study


@pytest.fixture
def shell(tmp_path: Path) -> Any:
    with Store(tmp_path / "studies.db") as store:
        make_study(store, "first", trials=3, complete=False)
        yield Shell(LiveStore(store))


def note(shell: Shell, name: str, **fields: Any) -> None:
    folder = shell.live.study("first").study.folder / "scratch" / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"step": 1240, "steps": 2500, "loss": 2.0, "tokens_per_second": 41200, "told": time.time()}
    (folder / f"{name}.json").write_text(json.dumps({**whole, **fields}))


def texts(shell: Shell) -> list[str]:
    """Of the page of all studies and of the one study, without the tags."""
    studies, front = shell.pages["studies"], shell.pages["front"]
    assert isinstance(studies, Studies)
    assert isinstance(front, Front)
    shell.live.all()
    parts = studies.training(None)[0], front.training(1, key_of(shell.live.store.study("first")), None)[0]
    return [json.dumps(part, default=lambda each: each.to_plotly_json()) for part in parts]


def test_nothing_is_said_where_nothing_trains(shell: Shell) -> None:
    assert texts(shell) == ["[]", "[]"]
    note(shell, "killed", told=time.time() - 3 * OLD_SECONDS)
    assert texts(shell) == ["[]", "[]"]


def test_a_training_is_told_with_its_speed_and_its_share_of_the_peak(shell: Shell) -> None:
    note(shell, "one", peak_share=0.214)
    for text in texts(shell):
        assert "training, step 1,240 of 2,500" in text
        assert "41,200" in text
        assert "21%" in text
        assert "of the device's peak" in text
        assert " in all" not in text
    assert "/study/first" in texts(shell)[0]


def test_of_many_trainings_there_is_a_sum(shell: Shell) -> None:
    for number in range(MOST + 2):
        note(shell, str(number))
    for text in texts(shell):
        assert text.count("step 1,240") == MOST
        assert f"{MOST + 2} trainings: 412,000" in text
        assert "peak" not in text


def test_a_study_that_is_gone_trains_nothing(shell: Shell) -> None:
    front = shell.pages["front"]
    assert isinstance(front, Front)
    assert front.training(1, "gone@1.0", None)[0] == []


def test_a_tick_without_news_sends_nothing(shell: Shell) -> None:
    studies, front = shell.pages["studies"], shell.pages["front"]
    assert isinstance(studies, Studies)
    assert isinstance(front, Front)
    key = key_of(shell.live.store.study("first"))
    for told in (False, True):
        if told:
            note(shell, "one")
        for training in (studies.training, lambda seen: front.training(1, key, seen)):
            lines, state = training(None)
            assert bool(lines) == told
            assert training(state) == (no_update, no_update)
