"""How the trainings of one network went: its score by training steps."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go

from dashboards.facts.family_tree import TrainingFacts
from dashboards.facts.quantities import Quantity
from dashboards.figures.drawing import whole_numbers
from dashboards.style.theme import MARKS, empty_figure, message_figure


def trainings_figure(trainings: Sequence[TrainingFacts], of: Quantity) -> go.Figure:
    """One line for each training, a point for each look; the last point has its standard error."""
    if not trainings:
        return message_figure("no training is on record")
    figure = empty_figure(300)
    for number, training in enumerate(trainings):
        mark = MARKS[number % len(MARKS)]
        last = training.last.error or 0.0
        figure.add_scatter(
            name=f"{escape(training.stage)}, {escape(training.evaluator)}, seed {training.seed}",
            x=list(training.steps),
            y=list(training.scores),
            error_y={"type": "data", "array": [0.0] * (len(training.steps) - 1) + [last], "width": 0},
            mode="lines+markers",
            line={"color": mark.colour},
            marker={"symbol": mark.symbol, "size": 8},
            hovertemplate="%{x:,} steps: %{y:.4~g}<extra></extra>",
            showlegend=True,
        )
    largest = max(training.steps[-1] for training in trainings)
    figure.update_xaxes(title_text="training steps", rangemode="tozero", **whole_numbers(largest))
    figure.update_yaxes(title_text=of.axis_title)
    return figure
