"""Progress is shown on standard error, as bars or as lines, and what an engine did is said in words."""

from __future__ import annotations

import io
import re
import sys
import types
from typing import Any

import pytest
from rich.console import Console

from nas import progress
from nas.progress import Notebook, Progress, ProgressBar, Terminal, default_progress, progress_of
from nas.validation.effort import effort_text


def terminal(*, is_terminal: bool) -> tuple[Terminal, io.StringIO]:
    """Progress that is printed into a text."""
    text = io.StringIO()
    return Terminal(Console(file=text, force_terminal=is_terminal, width=100, highlight=False)), text


def test_silent_progress_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    silent = Progress()
    silent.say("a line")
    with silent.bar("training", 3) as bar:
        bar.update(1, "loss 2.0")
        assert type(bar) is ProgressBar
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_progress_is_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, text = terminal(is_terminal=False)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "LINE_SHARE", 0.0)
    with shown.bar("training", 3) as bar:
        for step in range(3):
            bar.update(step + 1, f"loss {3 - step}")
    lines = text.getvalue().splitlines()
    assert lines[:3] == ["training: 1/3 loss 3", "training: 2/3 loss 2", "training: 3/3 loss 1"]
    assert lines[3].startswith("training: done in ")


def test_lines_are_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, text = terminal(is_terminal=False)
    monkeypatch.setattr(progress, "LINE_SECONDS", 1e6)
    with shown.bar("training", 100) as bar:
        for step in range(100):
            bar.update(step)
    assert len(text.getvalue().splitlines()) == 2  # the first, and that it is done


def test_on_a_terminal_progress_is_a_bar() -> None:
    shown, text = terminal(is_terminal=True)
    with shown.bar("training", 2) as bar:
        bar.update(2, "loss [1]")
    assert "training" in text.getvalue()
    assert "training: done in " in text.getvalue()


def test_what_is_said_is_printed_as_it_is() -> None:
    shown, text = terminal(is_terminal=False)
    shown.say("study [bold]first[/bold] " + "x" * 200)
    assert text.getvalue() == "study [bold]first[/bold] " + "x" * 200 + "\n"


def test_lines_of_a_long_work_become_rarer(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, text = terminal(is_terminal=False)
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with shown.bar("training", 36000) as bar:
        for step in range(36000):  # ten hours
            now += 1.0
            bar.update(step)
    assert 50 < len(text.getvalue().splitlines()) < 150


def test_a_log_gets_lines_and_who_wants_none_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert type(progress_of(True)) is Terminal
    assert {type(progress_of(off)) for off in (False, None)} == {Progress}
    own = Progress()
    assert progress_of(own) is own


class Display:
    """What a notebook shows: its outputs, of which each may be replaced."""

    def __init__(self) -> None:
        self.outputs: list[str] = []

    def display(self, shown: dict[str, str], **_: object) -> Display.Handle:
        self.outputs.append(shown["text/plain"])
        return Display.Handle(self, len(self.outputs) - 1)

    class Handle:
        def __init__(self, screen: Display, at: int) -> None:
            self.screen, self.at = screen, at

        def update(self, shown: dict[str, str], **_: object) -> None:
            self.screen.outputs[self.at] = shown["text/plain"]


def test_a_notebook_has_one_line_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    screen = Display()
    module = types.ModuleType("IPython.display")
    module.display = screen.display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    shown = default_progress()
    assert type(shown) is Notebook
    for title in ("training", "searching"):
        with shown.bar(title, 2) as bar:
            bar.update(1, "loss 2")
            assert len(screen.outputs) == 1
            assert re.fullmatch(title + r" ━{12}─{12} 1/2 0 s loss 2", screen.outputs[0])
            bar.update(2)
    assert screen.outputs == ["searching: done in 0 s"]
    shown.say("report: r.html")
    with shown.bar("again", 1):
        pass
    assert screen.outputs[1:] == ["report: r.html", "again: done in 0 s"]


@pytest.mark.parametrize(
    ("effort", "expected"),
    [
        ({"engine": "ofa"}, "ofa chooses while it scores"),
        ({"engine": "ofa", "seconds": 0.02, "candidate_seconds": 0.1}, "ofa chooses while it scores"),
        ({"engine": "exact", "did": {"sublayers scored": 1200}}, "(1,200 sublayers scored): how long"),
        ({"engine": "darts", "seconds": 12.4}, "before its first trial: 12 s"),
        (
            {"engine": "darts", "seconds": 12.0, "candidate_seconds": 0.5, "did": {"searches run": 4}},
            "(4 searches run): 12 s, in which about 24 more candidates could be scored",
        ),
    ],
)
def test_what_an_engine_did_is_said_in_words(effort: dict[str, Any], expected: str) -> None:
    assert expected in effort_text(effort)
