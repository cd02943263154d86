"""The front as a staircase, in a band of one standard error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dashboards.facts import Facts, FrontFacts, Point
from dashboards.facts.density import Density
from dashboards.figures import figures
from dashboards.figures.plane import Corner, Plane, hover, plane_of
from dashboards.style.theme import BLUE, GREY, ORANGE, empty_figure, faint, message_figure
from nas.pareto import nondominated

VECTOR_POINTS = 3000
"""Up to this many points are drawn as vectors, which print well; more are drawn by WebGL."""

PREDICTED = ", predicted"
"""What the name of points ends in of which a coordinate is predicted."""

BAND_OPACITY = 0.16
"""The opacity of a band of one standard error."""

MARKERS: dict[str, dict[str, Any]] = {
    "front": {"size": 9, "color": BLUE},
    "front, tied with the next step": {
        "size": 9,
        "color": BLUE,
        "symbol": "circle-open",
        "line": {"width": 2},
    },
    "front in other objectives": {"size": 6, "color": BLUE, "opacity": 0.5},
    "dominated as measured": {"size": 7, "color": BLUE, "opacity": 0.9, "symbol": "x-thin-open"},
}


@figures.add
def front(facts: Facts) -> go.Figure:
    """The front of the first two objectives."""
    if not facts.fronts:
        return message_figure("no trial is complete yet, or there is one objective only")
    return front_figure(facts.fronts[0])


def front_figure(facts: FrontFacts, height: int = 470) -> go.Figure:
    """The plane of two quantities; a click reports its trial by the number in `customdata`."""
    if not facts.front:
        return message_figure("no trial is complete yet", height)
    figure, plane = empty_figure(height), plane_of([facts])
    add_dominated(figure, facts, plane)
    add_points(figure, "front in other objectives", facts.other_members, plane)
    add_points(figure, "dominated as measured", facts.outdone, plane)
    add_band(figure, facts, plane, BLUE)
    add_line(figure, facts, plane, BLUE)
    add_points(figure, "front", [p for p in facts.front if not p.tied], plane)
    add_points(figure, "front, tied with the next step", [p for p in facts.front if p.tied], plane)
    add_finalists(figure, facts, plane)
    plane.title_axes(figure)
    return figure


def add_dominated(figure: go.Figure, facts: FrontFacts, plane: Plane) -> None:
    """What the front beats: points, or of very many the density in which they lie."""
    dominated = facts.dominated
    if facts.density is not None:
        _add_density(figure, facts.density, plane)
    if not dominated.numbers:
        return
    vectors = len(dominated.numbers) <= VECTOR_POINTS
    trace = go.Scatter if vectors else go.Scattergl
    x_mark, y_mark = ("~" if predicted else "" for predicted in dominated.predicted)
    figure.add_trace(
        trace(
            name="dominated" + PREDICTED * any(dominated.predicted),
            x=np.asarray(dominated.x, dtype=np.float32) / np.float32(plane.x.factor),
            y=np.asarray(dominated.y, dtype=np.float32) / np.float32(plane.y.factor),
            customdata=list(dominated.numbers),  # dash reports clicks from plain lists only
            mode="markers",
            marker={
                "size": 5 if vectors else 4,
                "color": GREY,
                "opacity": 0.55 if vectors else 0.35,
            },
            hovertemplate=f"trial %{{customdata}}<br>{x_mark}%{{x:.4~g}}, {y_mark}%{{y:.4~g}}<extra></extra>",
        )
    )


def _add_density(figure: go.Figure, density: Density, plane: Plane) -> None:
    """Cells by how many points lie in them, in logarithms; where there are none, the page shows through."""
    counts = density.counts
    shade = np.where(counts > 0, np.log1p(counts), np.nan).astype(np.float32)
    figure.add_heatmap(
        name=f"{density.points:,} dominated, as their density",
        x=(density.x.centres / plane.x.factor).astype(np.float32),
        y=(density.y.centres / plane.y.factor).astype(np.float32),
        z=shade,
        customdata=counts,
        colorscale=[[0, faint(GREY, 0.18)], [1, faint(GREY, 0.95)]],
        showscale=False,
        showlegend=True,
        hovertemplate="%{customdata} networks here<extra></extra>",
        hoverongaps=False,
    )


def add_points(figure: go.Figure, name: str, points: Sequence[Point], plane: Plane) -> None:
    """Points in one kind of marker; of those that are predicted only it is a diamond in place of a circle."""
    for predicted in (False, True):
        some = [point for point in points if point.is_predicted == predicted]
        if some:
            figure.add_scatter(
                name=name + PREDICTED * predicted,
                **plane.scaled(some),
                customdata=[point.number for point in some],
                text=[hover(point, plane) for point in some],
                mode="markers",
                marker=_as_diamond(MARKERS[name]) if predicted else MARKERS[name],
                hovertemplate="%{text}<extra></extra>",
            )


def _as_diamond(marker: dict[str, Any]) -> dict[str, Any]:
    return {**marker, "symbol": marker.get("symbol", "circle").replace("circle", "diamond")}


def add_finalists(figure: go.Figure, facts: FrontFacts, plane: Plane) -> None:
    """Rings around the members that were trained from scratch."""
    points = [point for point in facts.members if point.finalist]
    if points:
        figure.add_scatter(
            name="trained from scratch",
            **plane.scaled(points),
            mode="markers",
            marker={"size": 16, "color": ORANGE, "symbol": "circle-open", "line": {"width": 1.8}},
            hoverinfo="skip",
        )


def add_band(
    figure: go.Figure,
    facts: FrontFacts,
    plane: Plane,
    colour: str,
    *,
    group: str = "",
    opacity: float = BAND_OPACITY,
) -> None:
    """The staircase moved by one standard error in both directions."""
    corners = [(plane.as_costs(point), plane.errors(point)) for point in facts.front]
    low = [(_lower(x, dx), _lower(y, dy)) for (x, y), (dx, dy) in corners]
    high = [(x + dx, y + dy) for (x, y), (dx, dy) in corners]
    if low == high or len(corners) < 2:
        return
    edge = (max(plane.x.worst, *(x for x, _ in high)), max(plane.y.worst, *(y for _, y in high)))
    _add_staircase(
        figure,
        [*stairs(low, edge), *reversed(stairs(high, edge))],
        plane,
        name="± one standard error",
        line={"width": 0},
        fill="toself",
        fillcolor=faint(colour, opacity),
        legendgroup=group,
    )


def _lower(value: float, error: float) -> float:
    """The lower end of one standard error; of what is positive, never below a hundredth of it."""
    return max(value - error, value / 100) if value > 0 else value - error


def add_line(figure: go.Figure, facts: FrontFacts, plane: Plane, colour: str, *, group: str = "") -> None:
    """The staircase itself."""
    line = stairs([plane.as_costs(point) for point in facts.front], (plane.x.worst, plane.y.worst))
    _add_staircase(figure, line, plane, line={"width": 1.6, "color": colour}, legendgroup=group)


def _add_staircase(figure: go.Figure, corners: Sequence[Corner], plane: Plane, **settings: Any) -> None:
    figure.add_scatter(
        x=[x * plane.x.sign for x, _ in corners],
        y=[y * plane.y.sign for _, y in corners],
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        **settings,
    )


def stairs(points: Sequence[Corner], worst: Corner) -> list[Corner]:
    """The corners of the region that `points` dominate when less is better, out to the worst values."""
    kept = sorted(point for point, keep in zip(points, nondominated(points), strict=True) if keep)
    edge = (max(worst[0], kept[-1][0]), max(worst[1], kept[0][1]))
    line = [(kept[0][0], edge[1])]
    for (x, y), (next_x, _) in zip(kept, [*kept[1:], (edge[0], 0.0)], strict=True):
        line += [(x, y), (next_x, y)]
    return line
