"""The proxy's score of a network against its score after training from scratch."""

from __future__ import annotations

import plotly.graph_objects as go

from dashboards.facts import Facts, Finalist
from dashboards.figures import figures
from dashboards.figures.drawing import error_bars
from dashboards.style.theme import GREY, ORANGE, empty_figure, message_figure

SYMBOLS = ("circle-open", "diamond-open", "circle", "diamond", "square", "star")
"""Of the rungs, in order."""


@figures.add
def proxy(facts: Facts) -> go.Figure:
    """Random networks of the validation, and the finalists at their last rung."""
    finalists = [f for f in facts.finals.finalists if f.proxy and f.last] if facts.finals else []
    if not (facts.validation and facts.validation.pairs) and not finalists:
        return message_figure("no network was trained from scratch")
    figure = empty_figure(400)
    if facts.validation is not None and facts.validation.pairs:
        pairs = facts.validation.pairs
        figure.add_scatter(
            name=f"random networks, {facts.validation.steps or '?'} steps",
            x=[pair[0] for pair in pairs],
            y=[pair[1] for pair in pairs],
            text=[pair[2] for pair in pairs],
            mode="markers",
            marker={"size": 8, "color": GREY},
            hovertemplate="%{text}<br>proxy %{x:.3f}<br>from scratch %{y:.3f}<extra></extra>",
        )
    rungs = sorted({f.last[0] for f in finalists if f.last})
    for place, steps in enumerate(rungs):
        _add_rung(figure, steps, finalists, SYMBOLS[place % len(SYMBOLS)])
    figure.update_xaxes(title_text="proxy (bits per byte)")
    figure.update_yaxes(title_text="from scratch (bits per byte)")
    return figure


def _add_rung(figure: go.Figure, steps: int, finalists: list[Finalist], symbol: str) -> None:
    scores = [(f, f.proxy, f.last[1]) for f in finalists if f.last and f.proxy and f.last[0] == steps]
    figure.add_scatter(
        name=f"finalists, {steps:,} steps",
        x=[proxy_score.value for _, proxy_score, _ in scores],
        y=[score.value for _, _, score in scores],
        error_y=error_bars(score for _, _, score in scores),
        text=[finalist.digest for finalist, _, _ in scores],
        mode="markers",
        marker={"size": 10, "color": ORANGE, "symbol": symbol, "line": {"width": 2, "color": ORANGE}},
        hovertemplate="%{text}<br>proxy %{x:.3f}<br>from scratch %{y:.3f}<extra></extra>",
    )
