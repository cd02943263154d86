"""The share of each option at each layer: on the front, and among all scored architectures."""

from __future__ import annotations

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.facts import Facts
from dashboards.facts.composition import CompositionPanel
from dashboards.figures import figures
from dashboards.figures.drawing import LEAST_WIDTH
from dashboards.style.theme import BLUE, LIGHT, ORANGE, message_figure, template

ROW = 22
GAP = 34
BOLD, PLAIN = 8, 7
"""Widths of a character of a title and of an option: both stand in the left margin."""
COLUMN = 46
"""Least width of the bars of a layer."""


@figures.add
def composition(facts: Facts) -> go.Figure:
    """Bars for the front, ticks for all scored networks."""
    if facts.composition is None:
        return message_figure("the front's layers cannot be counted")
    panels, columns = facts.composition.panels, len(facts.composition.places)
    height = sum(ROW * len(panel.options) for panel in panels) + GAP * (len(panels) - 1)
    figure = make_subplots(
        len(panels),
        columns,
        shared_yaxes=True,
        shared_xaxes=True,
        row_heights=[len(panel.options) for panel in panels],
        vertical_spacing=GAP / height,
        horizontal_spacing=0.03,
        column_titles=list(facts.composition.places),
    )
    figure.update_layout(template=template(LIGHT), height=height + 90, bargap=0.38, showlegend=False)
    figure.update_annotations(font_size=13)
    for row, panel in enumerate(panels, start=1):
        for column in range(1, columns + 1):
            _add_cell(figure, panel, row, column)
        _add_title(figure, panel.title, row)
    figure.update_xaxes(range=[0, 1.02], tickvals=[0, 0.5, 1], ticktext=["", "50 %", ""], fixedrange=True)
    figure.update_yaxes(fixedrange=True, autorange="reversed", showgrid=False)
    left = 12 + max(
        *(BOLD * len(panel.title) for panel in panels),
        *(PLAIN * len(option) for panel in panels for option in panel.options),
    )
    figure.update_layout(meta={LEAST_WIDTH: left + COLUMN * columns})
    return figure.update_layout(margin={"t": 50, "b": 36, "l": left, "r": 4})


def _add_title(figure: go.Figure, title: str, row: int) -> None:
    figure.add_annotation(
        text=f"<b>{title}</b>",
        x=0,
        xref="paper",
        xanchor="right",
        xshift=-8,
        y=1,
        yshift=18,
        yref=f"{figure.get_subplot(row, 1).yaxis.plotly_name.replace('axis', '')} domain",
    )


def _add_cell(figure: go.Figure, panel: CompositionPanel, row: int, column: int) -> None:
    figure.add_bar(
        x=[shares[column - 1] for shares in panel.front],
        y=list(panel.options),
        orientation="h",
        marker={"color": BLUE},
        hovertemplate="%{y}: %{x:.0%} of the front<extra></extra>",
        row=row,
        col=column,
    )
    figure.add_scatter(
        x=[shares[column - 1] for shares in panel.everywhere],
        y=list(panel.options),
        mode="markers",
        marker={"symbol": "line-ns", "size": 12, "line": {"width": 2.4, "color": ORANGE}},
        hovertemplate="%{y}: %{x:.0%} of all scored<extra></extra>",
        row=row,
        col=column,
    )
