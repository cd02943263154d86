"""The front as a staircase, in a band of one standard error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dashboards.facts import Facts, FrontFacts, Point
from dashboards.facts.networks import quantity
from dashboards.facts.quantities import Quantity
from dashboards.figures import figures
from dashboards.style.theme import BLUE, GREY, ORANGE, empty_figure, faint, message_figure
from nas.pareto import nondominated

VECTOR_POINTS = 3000
"""Up to this many points are drawn as vectors, which print well; more are drawn by WebGL."""

BAND_OPACITY = 0.16
"""The opacity of a band of one standard error."""

Corner = tuple[float, float]

MARKERS: dict[str, dict[str, Any]] = {
    "front": {"size": 9, "color": BLUE},
    "front, tied with the next step": {
        "size": 9,
        "color": BLUE,
        "symbol": "circle-open",
        "line": {"width": 2},
    },
    "front in other objectives": {"size": 6, "color": BLUE, "opacity": 0.5},
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
    _add_dominated(figure, facts, plane)
    _add_points(figure, "front in other objectives", facts.other_members, plane)
    add_band(figure, facts, plane, BLUE)
    add_line(figure, facts, plane, BLUE)
    _add_points(figure, "front", [p for p in facts.front if not p.tied], plane)
    _add_points(figure, "front, tied with the next step", [p for p in facts.front if p.tied], plane)
    _add_finalists(figure, facts, plane)
    plane.title_axes(figure)
    return figure


@dataclass(frozen=True)
class Axis:
    """A quantity along an axis: `factor` and `unit` scale it, `worst` is its worst value, scaled."""

    quantity: Quantity
    factor: float
    unit: str
    worst: float
    logarithmic: bool

    @property
    def sign(self) -> float:
        """The sign that turns the quantity into a cost."""
        return -1.0 if self.quantity.maximise else 1.0

    @property
    def layout(self) -> dict[str, Any]:
        """Title and kind of the axis, for Plotly."""
        return {
            "title_text": self.quantity.title(self.unit),
            "type": "log" if self.logarithmic else "linear",
        }


@dataclass(frozen=True)
class Plane:
    """The two axes of a front's figure."""

    x: Axis
    y: Axis

    def title_axes(self, figure: go.Figure) -> None:
        """Write the quantities and their units at the axes."""
        figure.update_xaxes(**self.x.layout)
        figure.update_yaxes(**self.y.layout)

    def scaled(self, points: Sequence[Point]) -> dict[str, list[float]]:
        """Coordinates of points in the axes' units."""
        return {
            "x": [point.x.value / self.x.factor for point in points],
            "y": [point.y.value / self.y.factor for point in points],
        }

    def as_costs(self, point: Point) -> Corner:
        """A point in the axes' units, in the direction where less is better."""
        x, y = point.x.value / self.x.factor, point.y.value / self.y.factor
        return x * self.x.sign, y * self.y.sign

    def errors(self, point: Point) -> Corner:
        """A point's standard errors in the axes' units."""
        return (point.x.error or 0.0) / self.x.factor, (point.y.error or 0.0) / self.y.factor


def plane_of(fronts: Sequence[FrontFacts], *, dominated: bool = True) -> Plane:
    """Axes with room for all of these fronts, and for what they dominate."""
    return Plane(_axis(fronts, "x", dominated), _axis(fronts, "y", dominated))


def _axis(fronts: Sequence[FrontFacts], name: str, dominated: bool) -> Axis:
    values = [getattr(p, name).value for facts in fronts for p in (*facts.front, *facts.other_members)]
    if dominated:
        values += [value for facts in fronts for value in getattr(facts.dominated, name)]
    quantity: Quantity = getattr(fronts[0], name)
    factor, unit = quantity.scale(values)
    sign = -1.0 if quantity.maximise else 1.0
    logarithmic = min(values) > 0 and max(values) > 30 * min(values)
    return Axis(quantity, factor, unit, max(sign * value for value in values) / factor, logarithmic)


def _add_dominated(figure: go.Figure, facts: FrontFacts, plane: Plane) -> None:
    dominated = facts.dominated
    if not dominated.numbers:
        return
    vectors = len(dominated.numbers) <= VECTOR_POINTS
    trace = go.Scatter if vectors else go.Scattergl
    figure.add_trace(
        trace(
            name="dominated",
            x=np.asarray(dominated.x, dtype=np.float32) / np.float32(plane.x.factor),
            y=np.asarray(dominated.y, dtype=np.float32) / np.float32(plane.y.factor),
            customdata=list(dominated.numbers),  # dash reports clicks from plain lists only
            mode="markers",
            marker={
                "size": 5 if vectors else 4,
                "color": GREY,
                "opacity": 0.45 if vectors else 0.2,
            },
            hovertemplate="trial %{customdata}<br>%{x:.4~g}, %{y:.4~g}<extra></extra>",
        )
    )


def _add_points(figure: go.Figure, name: str, points: Sequence[Point], plane: Plane) -> None:
    if points:
        figure.add_scatter(
            name=name,
            **plane.scaled(points),
            customdata=[point.number for point in points],
            text=[hover(point, plane) for point in points],
            mode="markers",
            marker=MARKERS[name],
            hovertemplate="%{text}<extra></extra>",
        )


def _add_finalists(figure: go.Figure, facts: FrontFacts, plane: Plane) -> None:
    points = [point for point in (*facts.front, *facts.other_members) if point.finalist]
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
    low = [(x - dx, y - dy) for (x, y), (dx, dy) in corners]
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


def hover(point: Point, plane: Plane) -> str:
    """The text of a point under the mouse pointer."""
    values = {plane.x.quantity.name: point.x, plane.y.quantity.name: point.y, **point.values}
    lines = [f"<b>{escape(point.digest)}</b>  trial {point.number}"]
    lines += [escape(part) for part in point.one_line.split(" | ")]
    for name, value in values.items():
        shown = quantity(name)
        lines.append(f"{escape(shown.label)}: {escape(shown.of(value))} ({escape(value.source)})")
    if point.tied:
        lines.append("<i>tied: within the error, the next step is no worse</i>")
    return "<br>".join(lines)
