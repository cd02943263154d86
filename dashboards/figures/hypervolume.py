"""The hypervolume of the front, trial by trial: whether the search still improves it."""

from __future__ import annotations

import plotly.graph_objects as go

from dashboards.facts import Facts
from dashboards.figures import figures
from dashboards.figures.drawing import thinned
from dashboards.style.theme import BLUE, empty_figure, message_figure


@figures.add
def hypervolume(facts: Facts) -> go.Figure:
    """The dominated volume after each trial, as a share of its last value."""
    trace = facts.hypervolume
    if trace is None:
        return message_figure("the hypervolume needs at least two complete trials")
    shown = thinned(len(trace.numbers))
    figure = empty_figure(300)
    figure.add_scatter(
        x=[trace.numbers[i] for i in shown],
        y=[100 * trace.shares[i] for i in shown],
        mode="lines",
        line={"color": BLUE, "width": 2, "shape": "hv"},
        hovertemplate="after trial %{x}: %{y:.1f} %<extra></extra>",
        showlegend=False,
    )
    figure.update_xaxes(title_text="trial", rangemode="tozero")
    figure.update_yaxes(title_text="hypervolume (% of final)", range=[0, 104])
    return figure.update_layout(margin_t=16)
