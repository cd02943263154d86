"""How well the strategy's model predicts, trial by trial and objective by objective."""

from __future__ import annotations

from itertools import cycle

import plotly.graph_objects as go

from dashboards.facts import Facts
from dashboards.figures import figures
from dashboards.figures.drawing import thinned
from dashboards.style.theme import MARKS, empty_figure, message_figure


@figures.add
def skill(facts: Facts) -> go.Figure:
    """The rank correlation of values with their cross-validated predictions, before each proposal."""
    proposers = facts.proposers
    if proposers is None or not proposers.skill:
        return message_figure("no model proposed candidates of this study")
    figure = empty_figure(300)
    labels = {quantity.name: quantity.label for quantity in facts.study.objectives}
    shown = [proposers.skill[i] for i in thinned(len(proposers.skill))]
    names = dict.fromkeys(name for skill in shown for name in skill.of)
    for name, mark in zip(names, cycle(MARKS)):
        points = [(skill.number, skill.of[name]) for skill in shown if name in skill.of]
        figure.add_scatter(
            name=labels.get(name, name),
            x=[number for number, _ in points],
            y=[value for _, value in points],
            mode="lines",
            line={"color": mark.colour, "width": 2},
            hovertemplate="before trial %{x}: %{y:.2f}",
        )
    figure.update_xaxes(title_text="trial", rangemode="tozero")
    lowest = min(value for skill in shown for value in skill.of.values())
    figure.update_yaxes(title_text="rank correlation", range=[min(0.0, lowest), 1.04])
    return figure.update_layout(margin_t=16, showlegend=True)
