"""Predicted against measured latency of whole networks that the table was not fitted to."""

from __future__ import annotations

from collections.abc import Iterable

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.facts import Facts, LatencyAccuracy, TableFacts
from dashboards.figures import figures
from dashboards.style.theme import BLUE, GREY, LIGHT, message_figure, template

NOTHING = "no held-out network was measured"
TITLES = {"prefill_ms": "prefill", "decode_ms": "decode, per token"}


@figures.add
def table_error(facts: Facts) -> go.Figure:
    """That of the first table; see `table_error_figure`."""
    return table_error_figure(facts.tables[0]) if facts.tables else message_figure(NOTHING)


def table_error_figure(table: TableFacts) -> go.Figure:
    """One panel per latency, with the line where prediction and measurement agree."""
    accuracies = [accuracy for accuracy in table.accuracies if accuracy.pairs]
    if not accuracies:
        return message_figure(NOTHING)
    titles = [TITLES.get(accuracy.name, accuracy.name) for accuracy in accuracies]
    figure = make_subplots(1, len(accuracies), subplot_titles=titles, horizontal_spacing=0.12)
    figure.update_layout(template=template(LIGHT), height=360, showlegend=False)
    figure.update_annotations(font_size=13)
    for column, accuracy in enumerate(accuracies, start=1):
        _add_panel(figure, accuracy, column)
    figure.update_yaxes(title_text="measured (ms)", col=1)
    figure.update_xaxes(title_text="predicted (ms)")
    return figure.update_layout(margin_t=40)


def add_agreement(figure: go.Figure, values: Iterable[float], place: tuple[int, int]) -> None:
    """Give the panel in a row and column equal axes, which these values fit on, and the line of agreement."""
    row, column = place
    values = list(values)
    low, high = min(values), max(values)
    margin = 0.06 * (high - low or high or 1.0)
    line = [low - margin, high + margin]
    figure.add_scatter(
        x=line,
        y=line,
        mode="lines",
        line={"color": GREY, "width": 1, "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
        row=row,
        col=column,
    )
    figure.update_xaxes(range=line, row=row, col=column)
    figure.update_yaxes(range=line, row=row, col=column)


def _add_panel(figure: go.Figure, accuracy: LatencyAccuracy, column: int) -> None:
    add_agreement(figure, (value for pair in accuracy.pairs for value in pair), (1, column))
    figure.add_scatter(
        x=[predicted for predicted, _ in accuracy.pairs],
        y=[measured for _, measured in accuracy.pairs],
        mode="markers",
        marker={"size": 8, "color": BLUE, "opacity": 0.85},
        hovertemplate="predicted %{x:.3g} ms<br>measured %{y:.3g} ms<extra></extra>",
        row=1,
        col=column,
    )
