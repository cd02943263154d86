"""The supernet's training: its largest and its smallest subnet."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dashboards.facts import Facts
from dashboards.figures import figures
from dashboards.style.theme import BLUE, ORANGE, empty_figure, message_figure

CURVE_POINTS = 400


@figures.add
def supernet_loss(facts: Facts) -> go.Figure:
    """Training loss by step, smoothed over a fiftieth of the run, with the raw losses behind."""
    losses = facts.supernet.loss if facts.supernet else ()
    if not losses:
        return message_figure("no supernet was trained")
    figure = empty_figure(300)
    steps, largest, smallest = np.array(losses, dtype=float).T
    _add_curve(figure, "largest subnet", steps, largest, colour=BLUE)
    _add_curve(figure, "smallest subnet", steps, smallest, colour=ORANGE)
    figure.update_xaxes(title_text="training step")
    figure.update_yaxes(title_text=f"loss ({facts.study.loss_unit})")
    return figure


def _add_curve(figure: go.Figure, name: str, steps: np.ndarray, losses: np.ndarray, *, colour: str) -> None:
    smooth = _smoothed(losses, max(1, len(losses) // 50))
    thin = slice(None, None, -(-len(losses) // CURVE_POINTS))
    figure.add_scatter(
        x=steps[thin],
        y=losses[thin],
        mode="lines",
        line={"color": colour, "width": 1},
        opacity=0.25,
        showlegend=False,
        hoverinfo="skip",
    )
    figure.add_scatter(
        name=name,
        x=steps[thin],
        y=smooth[thin],
        mode="lines",
        line={"color": colour, "width": 2},
        hovertemplate=f"{name}, step %{{x}}: %{{y:.3f}}<extra></extra>",
    )


def _smoothed(values: np.ndarray, width: int) -> np.ndarray:
    """A centred running mean; at both ends it averages fewer values instead of padding."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.minimum(np.arange(len(values)) + width // 2 + 1, len(values))
    starts = np.maximum(np.arange(len(values)) - width // 2, 0)
    return (total[ends] - total[starts]) / (ends - starts)
