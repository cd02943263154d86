"""The proxy's score of a network against its score after training from scratch."""

from __future__ import annotations

import plotly.graph_objects as go

from dashboards.facts import Facts, Finalist
from dashboards.figures import figures
from dashboards.figures.drawing import error_bars
from dashboards.style.theme import GREY, ORANGE, empty_figure, message_figure
from foundation.text import count


def compared_steps(facts: Facts) -> int | None:
    """After how many steps from scratch networks are compared: scores of fewer or more would not be alike.

    As many as the random networks of the validation were trained for, else those of the last rung that all
    finalists completed; None where nothing is known.
    """
    if facts.validation is not None and facts.validation.pairs:
        return facts.validation.steps
    return facts.finals.common_rung if facts.finals else None


@figures.add
def proxy(facts: Facts) -> go.Figure:
    """Random networks of the validation, and the finalists, all after as many training steps."""
    steps, quality = compared_steps(facts), facts.study.quality
    finalists = [f for f in facts.finals.finalists if f.proxy and steps in f.rungs] if facts.finals else []
    pairs = facts.validation.pairs if facts.validation else ()
    if quality is None or not (pairs or finalists):
        return message_figure("no network was trained from scratch")
    figure = empty_figure(400)
    if pairs:
        figure.add_scatter(
            name="random networks",
            x=[pair[0] for pair in pairs],
            y=[pair[1] for pair in pairs],
            text=[pair[2] for pair in pairs],
            mode="markers",
            marker={"size": 8, "color": GREY},
            hovertemplate="%{text}<br>proxy %{x:.3f}<br>from scratch %{y:.3f}<extra></extra>",
        )
    if steps is not None and finalists:
        _add_finalists(figure, steps, finalists)
    after = f", {count(steps, 'step')}" if steps is not None else ""
    figure.update_xaxes(title_text=f"proxy ({quality.words})")
    figure.update_yaxes(title_text=f"from scratch{after} ({quality.words})")
    return figure


def _add_finalists(figure: go.Figure, steps: int, finalists: list[Finalist]) -> None:
    scores = [(f, f.proxy, f.rungs[steps]) for f in finalists if f.proxy]
    figure.add_scatter(
        name="finalists",
        x=[proxy_score.value for _, proxy_score, _ in scores],
        y=[score.value for _, _, score in scores],
        error_y=error_bars(score for _, _, score in scores),
        text=[finalist.digest for finalist, _, _ in scores],
        mode="markers",
        marker={"size": 10, "color": ORANGE, "symbol": "diamond-open", "line": {"width": 2}},
        hovertemplate="%{text}<br>proxy %{x:.3f}<br>from scratch %{y:.3f}<extra></extra>",
    )
