"""Predicted against measured latency of whole networks that the table was not fitted to."""

from __future__ import annotations

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.facts import Facts, Phase
from dashboards.figures import figures
from dashboards.style.theme import BLUE, GREY, LIGHT, message_figure, template

TITLES = {"prefill_ms": "prefill", "decode_ms": "decode, per token"}


@figures.add
def table_error(facts: Facts) -> go.Figure:
    """One panel per phase, with the line where prediction and measurement agree."""
    phases = [phase for phase in facts.table.phases if phase.pairs] if facts.table else []
    if not phases:
        return message_figure("no held-out network was measured")
    titles = [TITLES.get(phase.name, phase.name) for phase in phases]
    figure = make_subplots(1, len(phases), subplot_titles=titles, horizontal_spacing=0.12)
    figure.update_layout(template=template(LIGHT), height=360, showlegend=False)
    figure.update_annotations(font_size=13)
    for column, phase in enumerate(phases, start=1):
        _add_phase(figure, phase, column)
    figure.update_yaxes(title_text="measured (ms)", col=1)
    figure.update_xaxes(title_text="predicted (ms)")
    return figure.update_layout(margin_t=40)


def _add_phase(figure: go.Figure, phase: Phase, column: int) -> None:
    ends = [bound(value for pair in phase.pairs for value in pair) for bound in (min, max)]
    margin = 0.06 * (ends[1] - ends[0] or ends[1])
    line = [ends[0] - margin, ends[1] + margin]
    figure.add_scatter(
        x=line,
        y=line,
        mode="lines",
        line={"color": GREY, "width": 1, "dash": "dot"},
        hoverinfo="skip",
        row=1,
        col=column,
    )
    figure.add_scatter(
        x=[predicted for predicted, _ in phase.pairs],
        y=[measured for _, measured in phase.pairs],
        mode="markers",
        marker={"size": 8, "color": BLUE, "opacity": 0.85},
        hovertemplate="predicted %{x:.3g} ms<br>measured %{y:.3g} ms<extra></extra>",
        row=1,
        col=column,
    )
    figure.update_xaxes(range=line, row=1, col=column)
    figure.update_yaxes(range=line, row=1, col=column)
