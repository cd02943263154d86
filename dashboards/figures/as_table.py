"""The numbers of a figure as tables, one for each panel: for who cannot see it, or wants the numbers.

They are read from the figure itself, so that they cannot say anything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import unescape
from typing import Any

import plotly.graph_objects as go

from dashboards.figures.drawing import thinned
from foundation.text import significant, with_error

MOST = 200
"""Rows of a panel; of more marks so many are listed, evenly spaced."""

_TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True)
class PanelTable:
    """The marks of one panel: `rows` of as many texts as there are in the `head`; `of` marks in all."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    of: int


def panel_tables(figure: go.Figure) -> list[PanelTable]:
    """What the marks of a figure stand at; lines and rings that say nothing of their own are left out."""
    titles = [_plain(each.text) for each in figure.layout.annotations]
    panels: dict[str, list[Any]] = {}
    for trace in figure.data:
        silent = trace.type != "bar" and trace.hoverinfo == "skip"
        if not silent and trace.x is not None and any(x is not None for x in trace.x):
            panels.setdefault((trace.xaxis or "x")[1:], []).append(trace)
    found = []
    for number, traces in panels.items():
        place = int(number or 1) - 1
        rows = [row for trace in traces for row in _rows(trace)]
        head = ("", _title(figure, "x", number), _title(figure, "y", number))
        kept = thinned(len(rows), MOST)
        title = titles[place] if len(panels) > 1 and place < len(titles) else ""
        found.append(PanelTable(title, head, tuple(rows[i] for i in kept), len(rows)))
    return found


def _rows(trace: Any) -> Iterator[tuple[str, ...]]:
    """The name of the trace, then what each of its marks stands at."""
    columns = [
        _texts(values, (bar.array if bar and bar.array is not None else ()))
        for values, bar in ((trace.x, trace.error_x), (trace.y, trace.error_y))
    ]
    for x, y in zip(*columns, strict=True):
        yield _plain(trace.name or ""), x, y


def _texts(values: Sequence[Any], errors: Sequence[Any]) -> list[str]:
    texts = []
    for i, value in enumerate(values):
        error = errors[i] if i < len(errors) else None
        if not isinstance(value, int | float):
            texts.append(_plain(str(value)))
        elif error:
            texts.append(with_error(float(value), float(error)))
        else:
            texts.append(f"{value:,}" if isinstance(value, int) else significant(float(value), 4))
    return texts


def _title(figure: go.Figure, axis: str, number: str) -> str:
    """The title of an axis; of one that shares its numbers with others, theirs."""
    own = figure.layout[f"{axis}axis{number}"].title.text
    if not own:
        axes = figure.select_xaxes() if axis == "x" else figure.select_yaxes()
        own = next((each.title.text for each in axes if each.title.text), "")
    return _plain(own or "")


def _plain(text: str) -> str:
    """A text of a figure without its marks."""
    return unescape(_TAG.sub(" ", text or "")).strip()
