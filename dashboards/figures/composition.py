"""What the front is made of: the share of each option at each layer, against that in the whole search."""

from __future__ import annotations

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.facts import Facts
from dashboards.facts.composition import CompositionFacts
from dashboards.figures import figures
from dashboards.style.theme import BLUE, LIGHT, ORANGE, message_figure, template

ROW = 22
GAP = 34


@figures.add
def composition(facts: Facts) -> go.Figure:
    """Bars for the front, ticks for all networks that were scored."""
    if facts.composition is None:
        return message_figure("the front's layers cannot be counted")
    made = facts.composition
    rows, columns = len(made.panels), len(made.places)
    height = sum(ROW * len(panel.options) for panel in made.panels) + GAP * (rows - 1)
    figure = make_subplots(
        rows,
        columns,
        shared_yaxes=True,
        shared_xaxes=True,
        row_heights=[len(panel.options) for panel in made.panels],
        vertical_spacing=GAP / height,
        horizontal_spacing=0.03,
        column_titles=list(made.places),
    )
    figure.update_layout(template=template(LIGHT), height=height + 90, bargap=0.38, showlegend=False)
    figure.update_annotations(font_size=13)
    for row in range(1, rows + 1):
        for column in range(1, columns + 1):
            _add_cell(figure, made, row, column)
        title = made.panels[row - 1].title
        figure.update_yaxes(autorange="reversed", showgrid=False, row=row)
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
    figure.update_xaxes(range=[0, 1.02], tickvals=[0, 0.5, 1], ticktext=["0", "50 %", ""], fixedrange=True)
    figure.update_yaxes(fixedrange=True)
    return figure.update_layout(margin={"t": 50, "b": 36})


def _add_cell(figure: go.Figure, made: CompositionFacts, row: int, column: int) -> None:
    panel = made.panels[row - 1]
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
        hovertemplate="%{y}: %{x:.0%} of all that were scored<extra></extra>",
        row=row,
        col=column,
    )
