"""Finalists' learning curves: the score from scratch at each rung that a network reached."""

from __future__ import annotations

from html import escape

import plotly.graph_objects as go

from dashboards.facts import Facts
from dashboards.figures import figures
from dashboards.style.theme import BLUE, GREY, ORANGE, blank, message_figure


@figures.add
def rungs(facts: Facts) -> go.Figure:
    """One line per finalist; the best in orange, those trained to the end in blue, the others grey."""
    finalists = [f for f in facts.finals.finalists if f.rungs] if facts.finals else []
    if facts.finals is None or not finalists:
        return message_figure("no network was trained from scratch")
    figure = blank(400)
    for finalist in reversed(finalists):
        colour = ORANGE if finalist.best else BLUE if finalist.finished else GREY
        scores = finalist.rungs.values()
        figure.add_scatter(
            name=finalist.digest,
            x=list(finalist.rungs),
            y=[score.value for score in scores],
            error_y={
                "type": "data",
                "array": [score.error or 0.0 for score in scores],
                "width": 0,
                "thickness": 1,
            },
            mode="lines+markers",
            line={"color": colour, "width": 2.2 if finalist.finished else 1.2},
            marker={"size": 7},
            opacity=1.0 if finalist.finished else 0.7,
            text=[f"<b>{finalist.digest}</b><br>{escape(finalist.strip)}"] * len(finalist.rungs),
            hovertemplate="%{text}<br>%{x} steps: %{y:.3f} bits per byte<extra></extra>",
            showlegend=False,
        )
    figure.update_xaxes(
        title_text="training steps from scratch",
        type="log",
        tickvals=list(facts.finals.rungs),
        ticktext=[f"{steps:,}" for steps in facts.finals.rungs],
    )
    figure.update_yaxes(title_text="bits per byte")
    return figure.update_layout(margin_t=16)
