"""Networks as lines over genes and objectives.

Not in the registry of figures, which draw the facts of a study: this draws a selection of its networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go

from dashboards.facts.parallel import ParallelAxis, ParallelFacts, ParallelLine
from dashboards.figures.drawing import LEAST_WIDTH
from dashboards.style.theme import BLUE, GREY, MARKS, empty_figure, faint

HEIGHT = 440
AXIS = 150
"""Pixels of an axis at least."""

ROW, FEW, LEVELS = 86, 3, 3
"""Pixels of an axis that lies; more texts than so many stand on so many levels."""

WORDS = 17
"""Letters of a line of an axis' title."""


def parallel_figure(facts: ParallelFacts, *, narrow: bool = False) -> go.Figure:
    """Beaten networks grey, the front blue, compared ones thick; upwards is better on objectives.

    In a `narrow` one the axes lie below each other, and better is to the right.
    """
    figure = empty_figure(ROW * len(facts.axes) + 20 if narrow else HEIGHT)
    at = list(range(len(facts.axes)))
    for name, lines, colour, opacity in (
        ("beaten", facts.beaten, GREY, 0.28),
        ("front", facts.front, BLUE, 0.5),
    ):
        if lines:
            _add_many(figure, lines, at, faint(colour, opacity))
            figure.add_scatter(
                name=name, x=[None], y=[None], mode="lines", line={"color": colour, "width": 3}
            )
    for mark, line in zip(MARKS[1:] + MARKS[:1], facts.chosen, strict=False):
        figure.add_scatter(
            name=line.digest,
            x=at,
            y=line.places,
            mode="lines+markers",
            line={"color": mark.colour, "width": 3},
            marker={"color": mark.colour, "symbol": mark.symbol, "size": 9},
            hovertemplate=f"{escape(line.digest)}<extra></extra>",
        )
    if narrow:
        return _lying(figure, facts.axes)
    for x, axis in enumerate(facts.axes):
        _add_axis(figure, x, axis)
    figure.update_xaxes(
        range=[-0.45, len(at) - 0.35],
        tickvals=at,
        ticktext=[titled(axis) for axis in facts.axes],
        tickangle=0,
        side="bottom",
        showgrid=False,
        fixedrange=True,
        tickfont_size=11,
    )
    figure.update_yaxes(visible=False, range=[-0.06, 1.06], fixedrange=True)
    return figure.update_layout(
        meta={LEAST_WIDTH: AXIS * len(at)}, margin={"l": 8, "r": 8, "t": 44, "b": 66}, dragmode=False
    )


def _lying(figure: go.Figure, axes: Sequence[ParallelAxis]) -> go.Figure:
    """The same turned: axes from left to right, the first on top, names above and places below them."""
    for trace in figure.data:
        trace.x, trace.y = trace.y, trace.x
    for at, axis in enumerate(axes):
        figure.add_shape(
            type="line", x0=0, x1=1, y0=at, y1=at, layer="below", line={"color": faint(GREY, 0.8), "width": 1}
        )
        name = f"<b>{escape(axis.name)}</b>"
        figure.add_annotation(x=0, y=at, text=name, xanchor="left", yshift=17, font_size=11)
        levels = LEVELS if len(axis.ticks) > FEW else 1
        for i, (place, text) in enumerate(axis.ticks):
            side = "left" if place < 0.2 else "right" if place > 0.8 else "center"
            below = -12 - 13 * (i % levels)
            figure.add_annotation(x=place, y=at, text=escape(text), xanchor=side, yshift=below, font_size=10)
    figure.update_xaxes(visible=False, range=[-0.03, 1.03], fixedrange=True)
    figure.update_yaxes(visible=False, range=[len(axes) - 0.45, -0.5], fixedrange=True)
    return figure.update_layout(
        meta={LEAST_WIDTH: 0}, margin={"l": 4, "r": 4, "t": 8, "b": 4}, dragmode=False
    )


def _add_many(figure: go.Figure, lines: Sequence[ParallelLine], at: Sequence[int], colour: str) -> None:
    """All lines as one trace, with gaps between them; the legend has thicker ones."""
    x: list[float | None] = []
    y: list[float | None] = []
    for line in lines:
        x += [*at, None]
        y += [*line.places, None]
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines",
        line={"color": colour, "width": 1},
        hoverinfo="skip",
        showlegend=False,
    )


def _add_axis(figure: go.Figure, x: int, axis: ParallelAxis) -> None:
    """The line of an axis, and what its places mean, to the right of it on the colour of the page."""
    figure.add_shape(
        type="line", x0=x, x1=x, y0=0, y1=1, layer="below", line={"color": faint(GREY, 0.8), "width": 1}
    )
    for place, text in axis.ticks:
        figure.add_annotation(
            x=x,
            y=place,
            text=escape(text),
            xanchor="left",
            xshift=7,
            font_size=11,
            borderpad=1,
        )


def titled(axis: ParallelAxis) -> str:
    """The name of an axis in some short lines: a path breaks at its dots, words between them."""
    parts = axis.name.replace(".", ".\u200b").replace(":", ":\u200b").split("\u200b" if axis.gene else " ")
    space = "" if axis.gene else " "
    lines = [""]
    for part in parts:
        joined = f"{lines[-1]}{space if lines[-1] else ''}{part}"
        if lines[-1] and len(joined) > WORDS:
            lines.append(part)
        else:
            lines[-1] = joined
    return "<br>".join(escape(line if len(line) <= WORDS + 2 else f"{line[: WORDS + 1]}…") for line in lines)
