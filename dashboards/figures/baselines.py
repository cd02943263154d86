"""Baselines beside the front: what each network costs, and what it scores rung by rung."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go

from dashboards.facts import BaselineFacts, Facts, TrainedNetwork
from dashboards.facts.quantities import Quantity
from dashboards.figures import figures
from dashboards.figures.drawing import error_bars
from dashboards.figures.front import stairs
from dashboards.style.theme import BLUE, MARKS, Mark, empty_figure, faint, message_figure

EARLIER = 0.3
"""The opacity of scores after shorter trainings."""

THE_FRONT = Mark(BLUE, "circle", "●")


@figures.add
def baselines(facts: Facts) -> go.Figure:
    """Baselines in the plane of the first cost that they are compared at."""
    if facts.baselines is None or not facts.baselines.verdicts:
        return message_figure("no baseline was trained")
    return baseline_figure(facts.baselines, facts.baselines.verdicts[0].cost)


def baseline_figure(facts: BaselineFacts, cost: Quantity, height: int = 430) -> go.Figure:
    """Networks of the front and baselines by their cost; a line down joins the scores of one network."""
    shown = [n for n in (*facts.members, *facts.baselines) if cost.name in n.costs]
    if not shown:
        return message_figure(f"no network has a known {cost.label}", height)
    figure = empty_figure(height)
    values = [network.costs[cost.name].value for network in shown]
    factor, unit = cost.scale(values)
    for rung in facts.rungs:
        _add_staircase(figure, [n for n in shown if not n.name and rung in n.rungs], cost, rung, factor)
    for name, mark in zip(("", *facts.names), (THE_FRONT, *MARKS[1:]), strict=False):
        some = [network for network in shown if network.name == name]
        if some:
            for network in some:
                _add_network(figure, network, cost, mark, factor, quality=facts.quality)
            _add_legend_entry(figure, _called(name), mark)
    logarithmic = min(values) > 0 and max(values) > 10 * min(values)
    measured = all(n.costs[cost.name].source.startswith("measured") for n in shown)
    figure.update_xaxes(
        title_text=cost.title(unit, "measured" if measured else ""), type="log" if logarithmic else "linear"
    )
    figure.update_yaxes(title_text=facts.quality.axis_title)
    return figure


def _add_staircase(
    figure: go.Figure, members: Sequence[TrainedNetwork], cost: Quantity, rung: int, factor: float
) -> None:
    """The front of those that were trained for so many steps, and these steps at its end."""
    if not members:
        return
    corners = [(n.costs[cost.name].value / factor, n.rungs[rung].value) for n in members]
    line = stairs(corners, (max(x for x, _ in corners), max(y for _, y in corners)))
    figure.add_scatter(
        x=[x for x, _ in line],
        y=[y for _, y in line],
        mode="lines",
        line={"color": faint(BLUE, 2 * EARLIER), "width": 1.2},
        hoverinfo="skip",
        showlegend=False,
    )
    figure.add_annotation(
        x=line[-1][0],
        y=line[-1][1],
        text=f"{rung:,} steps",
        xanchor="left",
        yanchor="bottom",
        xshift=7,
        yshift=2,
    )


def _add_network(
    figure: go.Figure,
    network: TrainedNetwork,
    cost: Quantity,
    mark: Mark,
    factor: float,
    *,
    quality: Quantity,
) -> None:
    steps, x = sorted(network.rungs), network.costs[cost.name].value / factor
    scores = [network.rungs[rung] for rung in steps]
    opacity = [EARLIER] * (len(steps) - 1) + [1.0]
    who = f"<b>{escape(_called(network.name))}</b> {network.digest}<br>{escape(network.one_line)}"
    figure.add_scatter(
        x=[x] * len(steps),
        y=[score.value for score in scores],
        error_y=error_bars(scores),
        mode="lines+markers",
        line={"color": faint(mark.colour, EARLIER), "width": 1},
        marker={"size": 10, "color": mark.colour, "symbol": mark.symbol, "opacity": opacity},
        text=[f"{who}<br>{rung:,} steps from scratch" for rung in steps],
        hovertemplate="%{text}: %{y:.3f} " + quality.words + "<extra></extra>",
        legendgroup=_called(network.name),
        showlegend=False,
    )


def _add_legend_entry(figure: go.Figure, name: str, mark: Mark) -> None:
    figure.add_scatter(
        name=name,
        x=[None],
        y=[None],
        mode="markers",
        marker={"size": 10, "color": mark.colour, "symbol": mark.symbol},
        legendgroup=name,
    )


def _called(name: str) -> str:
    return name or "of the front"
