"""The mean of an objective by the answer to one gene, with standard errors.

Not in the registry of figures, which draw the facts of a study: a report does not fit models.
"""

from __future__ import annotations

from html import escape

import plotly.graph_objects as go

from dashboards.facts.dependence import DependenceFacts, DependencePoint
from dashboards.figures.drawing import LEAST_WIDTH
from dashboards.figures.importance import shown
from dashboards.style.theme import BLUE, empty_figure

WIDTH, PHONE_WIDTH = 260, 180
"""Pixels between the sides of the plot, at least."""

ROW = 34
LETTER, PHONE_LETTER = 6.6, 5.8
LONGEST, PHONE_LONGEST = 30, 21

HOVER = "%{customdata[0]}: %{customdata[1]}<br>%{customdata[2]:,} known networks have it<extra></extra>"


def dependence_figure(facts: DependenceFacts, *, narrow: bool = False) -> go.Figure:
    """Numbers from left to right, joined by a line; other answers below each other.

    Hollow ones no known network has. In a `narrow` one answers have small letters, and few of them.
    """
    points = facts.points
    factor, unit = facts.of.scale([point.mean for point in points])
    letter, longest = (PHONE_LETTER, PHONE_LONGEST) if narrow else (LETTER, LONGEST)
    labels = [_label(point.label, longest) for point in points]
    means = [point.mean / factor for point in points]
    errors = {
        "type": "data",
        "array": [point.error / factor for point in points],
        "width": 0,
        "thickness": 1.6,
        "color": BLUE,
    }
    across = facts.ordered
    figure = empty_figure(320 if across else ROW * len(points) + 112)
    figure.add_scatter(
        x=labels if across else means,
        y=means if across else labels,
        error_y=errors if across else None,
        error_x=None if across else errors,
        customdata=[
            [label, _told(facts, point), point.networks] for label, point in zip(labels, points, strict=True)
        ],
        mode="lines+markers" if across else "markers",
        line={"color": BLUE, "width": 1.6},
        marker={
            "size": 10,
            "color": BLUE,
            "symbol": ["circle" if point.networks else "circle-open" for point in points],
        },
        hovertemplate=HOVER,
        showlegend=False,
    )
    gene = shown(facts.gene) + (", in all layers" if facts.genes > 1 else "")
    answers, values = (figure.update_xaxes, figure.update_yaxes)[:: 1 if across else -1]
    values(title_text=facts.of.title(unit), fixedrange=True, nticks=6)
    answers(type="category", fixedrange=True, title_text=gene if across else "")
    if not across:
        figure.update_yaxes(autorange="reversed", tickfont_size=11 if narrow else None)
    left = 76 if across else int(24 + letter * max(map(len, labels), default=0))
    if not across:
        corner = {"x": 0, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "left"}
        figure.add_annotation(text=gene, xshift=8 - left if narrow else 0, yshift=24, **corner)
    least = left + (PHONE_WIDTH if narrow else WIDTH)
    margin = {"l": left, "r": 16, "t": 16 if across else 34, "b": 56}
    return figure.update_layout(meta={LEAST_WIDTH: least}, margin=margin)


def _told(facts: DependenceFacts, point: DependencePoint) -> str:
    return escape(facts.of.text(point.mean, point.error))


def _label(label: object, longest: int) -> str:
    text = str(label)
    return escape(text if len(text) <= longest else f"{text[: longest - 1]}…")
