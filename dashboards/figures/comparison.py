"""The fronts of several studies, laid over each other, and how fast each came to its own.

These are not in the registry of figures: what is there draws the facts of one study, for its report and the
dashboard, and these draw a comparison.
"""

from __future__ import annotations

import plotly.graph_objects as go

from dashboards.facts import ComparedStudy, ComparisonFacts, FrontFacts, Point
from dashboards.figures.front import Corner, add_band, add_line, axis_kind, hover, turns
from dashboards.style.theme import MARKS, Mark, blank

CURVES = 1500
SIZES = (11.0, 8.5, 8.0, 9.0, 9.0, 9.0)
"""Of the marks: those of the first studies fit into each other, and all look about as large."""

FAINT = 0.11
"""How much of its colour a band has here, where several lie over each other."""

MAX_BANDS = 3
"""Of more studies than this, bands of one standard error would hide each other."""


def fronts_figure(facts: ComparisonFacts, plane: int = 0, height: int = 500) -> go.Figure:
    """The staircases of all studies in one pair of objectives."""
    figure, fronts = blank(height), [side.fronts[plane] for side in facts.sides]
    x, y = fronts[0].x, fronts[0].y
    shown = [point for front in fronts for point in (*front.front, *front.elsewhere)]
    xs, ys = [point.x.value for point in shown], [point.y.value for point in shown]
    (by_x, unit_x), (by_y, unit_y) = x.scale(xs), y.scale(ys)
    turn_x, turn_y = turns(fronts[0])
    by = (by_x, by_y)
    worst = (max(turn_x * v for v in xs) / by_x, max(turn_y * v for v in ys) / by_y)
    for side, front, mark in zip(facts.sides, fronts, MARKS, strict=False):
        if len(fronts) <= MAX_BANDS:
            add_band(figure, front, by, worst, mark.colour, group=side.study.name, share=FAINT)
    for side, front, mark in zip(facts.sides, fronts, MARKS, strict=False):
        add_line(figure, front, by, worst, mark.colour, group=side.study.name)
    for i, front in enumerate(fronts):
        _add_marks(figure, facts.sides[i], front, by, i)
    figure.update_xaxes(title_text=x.title(unit_x), type=axis_kind(xs))
    figure.update_yaxes(title_text=y.title(unit_y), type=axis_kind(ys))
    return figure


def _add_marks(figure: go.Figure, side: ComparedStudy, front: FrontFacts, by: Corner, place: int) -> None:
    """Solid, hollow where the next step is tied, faint where it is another objective that counts.

    The second study's marks are smaller than the first one's, so that what both found shows both.
    """
    mark, size = MARKS[place], SIZES[place]
    solid = {"size": size, "color": mark.colour, "symbol": mark.symbol}
    hollow = {**solid, "symbol": f"{mark.symbol}-open", "line": {"width": 2}}
    groups: tuple[tuple[list[Point], dict[str, object]], ...] = (
        (list(front.elsewhere), {**solid, "size": 5, "opacity": 0.4}),
        ([point for point in front.front if not point.tied], solid),
        ([point for point in front.front if point.tied], hollow),
    )
    for points, marker in groups:
        if points:
            figure.add_scatter(
                x=[point.x.value / by[0] for point in points],
                y=[point.y.value / by[1] for point in points],
                text=[f"{side.study.name}: {hover(point, front)}" for point in points],
                mode="markers",
                marker=marker,
                hovertemplate="%{text}<extra></extra>",
                showlegend=False,
                legendgroup=side.study.name,
            )
    _add_key(figure, side, mark)


def _add_key(figure: go.Figure, side: ComparedStudy, mark: Mark) -> None:
    """The study's entry in the legend, whatever marks it has."""
    figure.add_scatter(
        name=side.study.name,
        x=[None],
        y=[None],
        mode="lines+markers",
        line={"width": 1.6, "color": mark.colour},
        marker={"size": 9, "symbol": mark.symbol},
        legendgroup=side.study.name,
    )


def progress_figure(facts: ComparisonFacts) -> go.Figure:
    """The share of the joint volume that each study dominates, architecture by architecture."""
    figure = blank(300)
    for side, mark in zip(facts.sides, MARKS, strict=False):
        last = len(side.trace)
        shown = sorted({*range(1, last + 1, -(-last // CURVES)), last})
        figure.add_scatter(
            name=side.study.name,
            x=shown,
            y=[100 * side.share_at(count) for count in shown],
            mode="lines",
            line={"color": mark.colour, "width": 2, "shape": "hv"},
            hovertemplate="%{x} scored: %{y:.1f} %",
        )
    figure.update_xaxes(title_text="architectures scored", rangemode="tozero")
    figure.update_yaxes(title_text="hypervolume (% of all)", range=[0, 104])
    return figure
