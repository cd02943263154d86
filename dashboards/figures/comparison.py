"""The fronts of several studies in one plane, and how the volume that each dominates grew.

These are not in the registry of figures, which draw the facts of one study: these draw a comparison.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from dashboards.facts import ComparedStudy, ComparisonFacts, Point
from dashboards.figures.drawing import thinned
from dashboards.figures.front import add_band, add_line
from dashboards.figures.plane import Plane, hover, plane_of
from dashboards.style.theme import MARKS, Mark, empty_figure

SIZES = (11.0, 8.5, 8.0, 9.0, 9.0, 9.0)
"""Of the marks: those of the first studies fit into each other, and all appear about equally large."""

OPACITY = 0.11
"""The opacity of a band where several overlap."""

MAX_BANDS = 3
"""With more studies than this, bands of one standard error would hide each other."""


def fronts_figure(facts: ComparisonFacts, pair: int = 0, height: int = 500) -> go.Figure:
    """The staircases of all studies in the objectives of pair number `pair`."""
    figure, fronts = empty_figure(height), [compared.fronts[pair] for compared in facts.studies]
    plane = plane_of(fronts, dominated=False)
    drawn = list(zip(facts.studies, fronts, MARKS, strict=False))
    for compared, front, mark in drawn:
        if len(fronts) <= MAX_BANDS:
            add_band(figure, front, plane, mark.colour, group=compared.study.name, opacity=OPACITY)
    for compared, front, mark in drawn:
        add_line(figure, front, plane, mark.colour, group=compared.study.name)
    for (compared, front, mark), size in zip(drawn, SIZES, strict=False):
        for points, marker in _markers(list(front.front), list(front.other_members), mark, size):
            _add_points(figure, compared, points, marker, plane=plane)
        _add_legend_entry(figure, compared, mark)
    plane.title_axes(figure)
    return figure


def _markers(
    front: list[Point], other_members: list[Point], mark: Mark, size: float
) -> list[tuple[list[Point], dict[str, Any]]]:
    """Solid, hollow where the next step is tied, faint on the front because of another objective.

    The second study's marks are smaller than the first one's, so that both are visible at a common network.
    """
    solid = {"size": size, "color": mark.colour, "symbol": mark.symbol}
    return [
        (other_members, {**solid, "size": 5, "opacity": 0.4}),
        ([point for point in front if not point.tied], solid),
        (
            [point for point in front if point.tied],
            {**solid, "symbol": f"{mark.symbol}-open", "line": {"width": 2}},
        ),
    ]


def _add_points(
    figure: go.Figure, compared: ComparedStudy, points: list[Point], marker: dict[str, Any], *, plane: Plane
) -> None:
    if points:
        figure.add_scatter(
            **plane.scaled(points),
            text=[f"{compared.study.name}: {hover(point, plane)}" for point in points],
            mode="markers",
            marker=marker,
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
            legendgroup=compared.study.name,
        )


def _add_legend_entry(figure: go.Figure, compared: ComparedStudy, mark: Mark) -> None:
    """The study's entry in the legend, whatever marks it has."""
    figure.add_scatter(
        name=compared.study.name,
        x=[None],
        y=[None],
        mode="lines+markers",
        line={"width": 1.6, "color": mark.colour},
        marker={"size": 9, "symbol": mark.symbol},
        legendgroup=compared.study.name,
    )


def progress_figure(facts: ComparisonFacts) -> go.Figure:
    """The share of the joint volume that each study dominates, architecture by architecture."""
    figure = empty_figure(300)
    for compared, mark in zip(facts.studies, MARKS, strict=False):
        shown = [index + 1 for index in thinned(len(compared.trace))]
        figure.add_scatter(
            name=compared.study.name,
            x=shown,
            y=[100 * compared.share_at(scored) for scored in shown],
            mode="lines",
            line={"color": mark.colour, "width": 2, "shape": "hv"},
            hovertemplate="%{x} scored: %{y:.1f} %",
        )
    figure.update_xaxes(title_text="architectures scored", rangemode="tozero")
    figure.update_yaxes(title_text="hypervolume (% of all)", range=[0, 104])
    return figure
