"""How a window shows figures: what a browser says of itself, legends on a phone, tables behind figures."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import pytest

from dashboards.app.look import Look
from dashboards.facts import Facts
from dashboards.figures import figures
from dashboards.figures.as_table import MOST, panel_tables
from dashboards.figures.drawing import LINE, legend_below
from dashboards.style.theme import DARK, empty_figure


@pytest.mark.parametrize(
    ("given", "look"),
    [
        ("dark narrow", Look("dark", narrow=True)),
        ("light", Look()),
        (None, Look()),
        ("sepia", Look()),
        (["dark"], Look()),
        ("narrow", Look(narrow=True)),
    ],
)
def test_a_look_is_read_from_whatever_a_browser_says(given: Any, look: Look) -> None:
    assert Look.read(given) == look
    assert Look.read(str(look)) == look


def named(*names: str) -> go.Figure:
    figure = empty_figure(300)
    for name in names:
        figure.add_scatter(name=name, x=[1, 2], y=[1, 2])
    return figure


def test_on_a_phone_the_legend_stands_below_in_room_of_its_own() -> None:
    figure = Look("dark", narrow=True).dressed(named("a", "b", "c" * 60))
    assert figure.layout.height == 300 + 3 * LINE
    assert figure.layout.legend.yanchor == "bottom"
    assert figure.layout.template.layout.font.color == DARK.ink
    assert legend_below(named("alone")).layout.height == 300
    assert Look().dressed(named("a", "b")).layout.height == 300


def test_the_table_behind_a_figure_has_every_mark_of_it() -> None:
    figure = named("a<br>b", "&lt;c&gt;")
    figure.data[0].error_y = {"array": [0.25, 0]}
    figure.add_scatter(x=[5], y=[5], hoverinfo="skip")
    figure.add_scatter(name="only in the legend", x=[None], y=[None])
    figure.update_xaxes(title_text="width (channels)")
    (table,) = panel_tables(figure)
    assert table.head == ("", "width (channels)", "")
    assert table.rows == (
        ("a b", "1", "1.00 ± 0.25"),
        ("a b", "2", "2"),
        ("<c>", "1", "1"),
        ("<c>", "2", "2"),
    )


def test_of_very_many_marks_the_table_lists_some() -> None:
    figure = empty_figure().add_scatter(x=list(range(10_000)), y=list(range(10_000)))
    (table,) = panel_tables(figure)
    assert table.of == 10_000
    assert MOST <= len(table.rows) <= MOST + 1
    assert table.rows[-1] == ("", "9,999", "9,999")


@pytest.mark.parametrize("name", list(figures))
def test_every_figure_of_a_report_has_a_table(name: str, all_facts: dict[str, Facts]) -> None:
    figure = figures[name](all_facts["full"])
    tables = panel_tables(figure)
    assert bool(tables) == bool(figure.data)
    for table in tables:
        assert table.rows
        assert all(len(row) == len(table.head) for row in table.rows)
