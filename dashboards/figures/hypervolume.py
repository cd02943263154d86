"""The hypervolume of the front, trial by trial: whether the search still improves it."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

from dashboards.facts import Facts, HypervolumeFacts
from dashboards.figures import figures
from dashboards.figures.drawing import thinned, whole_numbers
from dashboards.style.theme import BLUE, MARKS, ORANGE, empty_figure, message_figure


@figures.add
def hypervolume(facts: Facts) -> go.Figure:
    """The dominated volume after each trial, as a share of its last value."""
    return volume_figure({"": facts.hypervolume} if facts.hypervolume else {})


def volume_figure(curves: Mapping[str, HypervolumeFacts], after: int | None = None) -> go.Figure:
    """The curves of one study, or of several by name; all are shares of one volume. A line marks a trial."""
    if not curves:
        return message_figure("the hypervolume needs at least two complete trials")
    figure, named = empty_figure(300), len(curves) > 1
    for (name, trace), mark in zip(curves.items(), MARKS, strict=False):
        shown = thinned(len(trace.numbers))
        figure.add_scatter(
            name=name,
            x=[trace.numbers[i] for i in shown],
            y=[100 * trace.shares[i] for i in shown],
            mode="lines",
            line={"color": mark.colour if named else BLUE, "width": 2, "shape": "hv"},
            hovertemplate="after trial %{x:,}: %{y:.1f} %<extra></extra>",
            showlegend=named,
        )
    last = max(trace.numbers[-1] for trace in curves.values())
    figure.update_xaxes(title_text="trial", rangemode="tozero", **whole_numbers(last))
    figure.update_yaxes(title_text="hypervolume (% of final)", range=[0, 104])
    if after is not None:
        figure.add_vline(after, line={"color": ORANGE, "width": 1.4, "dash": "dot"})
    return figure.update_layout(margin_t=36 if named else 16)
