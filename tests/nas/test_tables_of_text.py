"""Tables on standard output: nothing is cut, however short the lines are."""

from __future__ import annotations

import pytest

from nas.commands.output import print_table

HEAD = ("digest", "weight_bytes", "layers")
ROWS = [("c6d123236061", "114 kB", "d48: EMA(expansion=2)+SwiGLU, Attention+SwiGLU")] * 2


@pytest.mark.parametrize("columns", ["20", "40", "60", "80", "200"])
def test_only_what_may_be_is_broken_and_only_at_words(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    print_table(HEAD, ROWS, wrapped=("layers",))
    lines = capsys.readouterr().out.splitlines()
    words = " ".join(" ".join(line.split()) for line in lines)
    for word in (*HEAD, "c6d123236061", "114 kB", "EMA(expansion=2)+SwiGLU,", "Attention+SwiGLU"):
        assert word in words
    least = 12 + 2 + 12 + 2 + len("EMA(expansion=2)+SwiGLU,")
    assert max(len(line.rstrip()) for line in lines) <= max(int(columns), least)


@pytest.mark.parametrize("columns", ["", "0", "-1", "wide", "99999999"])
def test_a_file_is_wide_where_nothing_else_is_said(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    print_table(HEAD, ROWS, wrapped=("layers",))
    assert len(capsys.readouterr().out.splitlines()) == 3
