"""Finalists' learning curves: the score from scratch at each rung that a network reached."""

from __future__ import annotations

from html import escape

import plotly.graph_objects as go

from dashboards.facts import Facts, Finalist
from dashboards.facts.quantities import Quantity
from dashboards.figures import figures
from dashboards.figures.drawing import error_bars
from dashboards.style.theme import BLUE, GREY, ORANGE, empty_figure, message_figure


@figures.add
def finalists(facts: Facts) -> go.Figure:
    """One line per finalist; the best in orange, those trained to the end in blue, the others grey."""
    trained = [finalist for finalist in facts.finals.finalists if finalist.rungs] if facts.finals else []
    quality = facts.study.quality
    if facts.finals is None or quality is None or not trained:
        return message_figure("no network was trained from scratch")
    figure = empty_figure(400)
    for finalist in reversed(trained):
        _add_curve(figure, finalist, quality)
    figure.update_xaxes(
        title_text="training steps from scratch",
        type="log",
        tickvals=list(facts.finals.rungs),
        ticktext=[f"{steps:,}" for steps in facts.finals.rungs],
    )
    figure.update_yaxes(title_text=quality.axis_title)
    return figure.update_layout(margin_t=16)


def _add_curve(figure: go.Figure, finalist: Finalist, quality: Quantity) -> None:
    colour = ORANGE if finalist.best else BLUE if finalist.finished else GREY
    scores = finalist.rungs.values()
    figure.add_scatter(
        name=finalist.digest,
        x=list(finalist.rungs),
        y=[score.value for score in scores],
        error_y=error_bars(scores),
        mode="lines+markers",
        line={"color": colour, "width": 2.2 if finalist.finished else 1.2},
        marker={"size": 7},
        opacity=1.0 if finalist.finished else 0.7,
        text=[f"<b>{finalist.digest}</b><br>{escape(finalist.one_line)}"] * len(finalist.rungs),
        hovertemplate=f"%{{text}}<br>%{{x}} steps: %{{y:.3f}} {quality.words}<extra></extra>",
        showlegend=False,
    )
