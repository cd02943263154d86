"""The front as a reader looks at it: colour and size by further quantities, bounds, marks, other studies.

Not in the registry of figures, which draw the facts of one study: this draws what a reader asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dashboards.facts.explore import ExploreFacts, View
from dashboards.facts.front import FrontFacts, Point
from dashboards.facts.quantities import Quantity
from dashboards.figures.drawing import error_bars
from dashboards.figures.front import add_band, add_dominated, add_finalists, add_line, add_points, stairs
from dashboards.figures.plane import Plane, hover, plane_of
from dashboards.figures.space import space_figure
from dashboards.style.theme import AMBER, BLUE, GREY, MARKS, ORANGE, empty_figure, faint, message_figure

SIZES = (7.0, 22.0)
"""Of marks whose size shows a quantity."""

MARGIN = 0.05
"""Of an axis beyond what lies there, as Plotly leaves it."""

SCALE = "Cividis"
"""A colour scale that people with colour blindness read in the right order (Nuñez et al. 2018)."""


def explorer_figure(facts: ExploreFacts, height: int = 560) -> go.Figure:
    """The plane, or with a third axis the space, in which the networks lie.

    A click reports its trial by the number in `customdata`.
    """
    if not facts.known:
        return message_figure("nothing is scored yet", height)
    if facts.view.z is not None:
        return space_figure(facts, height)
    if not facts.plane.front and not facts.outside:
        return message_figure("no network has both of these numbers", height)
    if not facts.plane.front:
        early = facts.view.after is not None and not facts.view.bounds
        text = "nothing was scored by then" if early else "no network keeps all of these bounds"
        return message_figure(text, height)
    last = [facts.last] if facts.last is not None and facts.last.front else []
    shown = [facts.plane, *last, *(each.plane for each in _drawn(facts))]
    figure, plane = empty_figure(height), plane_of(shown)
    for front in last:
        _add_last(figure, front, plane)
    _add_outside(figure, facts, plane)
    add_dominated(figure, facts.plane, plane)
    add_points(figure, "front in other objectives", _members(facts.plane, facts.view), plane)
    add_points(figure, "dominated as measured", facts.plane.outdone, plane)
    add_band(figure, facts.plane, plane, BLUE)
    add_line(figure, facts.plane, plane, BLUE)
    _add_overlays(figure, facts, plane)
    _add_front(figure, facts, plane)
    add_finalists(figure, facts.plane, plane)
    _add_baselines(figure, facts, plane)
    _add_marks(figure, facts, plane)
    plane.title_axes(figure)
    for front in last:
        _hold_axes(figure, front, plane)
    return figure.update_layout(clickmode="event", dragmode="zoom")


def _add_last(figure: go.Figure, last: FrontFacts, plane: Plane) -> None:
    """Where the front arrived, below all else, while one on the way is looked at."""
    corners = stairs([plane.as_costs(point) for point in last.front], (plane.x.worst, plane.y.worst))
    figure.add_scatter(
        name="front after all trials",
        x=[x * plane.x.sign for x, _ in corners],
        y=[y * plane.y.sign for _, y in corners],
        mode="lines",
        line={"color": GREY, "width": 1.4, "dash": "dot"},
        hoverinfo="skip",
    )


def _hold_axes(figure: go.Figure, last: FrontFacts, plane: Plane) -> None:
    """The axes of all trials, so that they stand still while the front grows."""
    for axis, values, update in (
        (plane.x, last.dominated.x, figure.update_xaxes),
        (plane.y, last.dominated.y, figure.update_yaxes),
    ):
        ends = np.array([min(values), max(values)]) / axis.factor
        ends = np.log10(ends) if axis.logarithmic else ends
        room = MARGIN * (float(np.ptp(ends)) or 1.0)
        update(range=[float(ends[0]) - room, float(ends[1]) + room])


def _members(plane: FrontFacts, view: View) -> Sequence[Point]:
    """Members because of other objectives, unless colour or size shows them."""
    return () if view.colour or view.size else plane.other_members


def _drawn(facts: ExploreFacts) -> list[Any]:
    return [each for each in facts.overlays if each.plane.front]


def _add_outside(figure: go.Figure, facts: ExploreFacts, plane: Plane) -> None:
    if facts.outside:
        places = np.array(facts.outside, dtype=np.float32)
        figure.add_scatter(
            name="beyond the bounds",
            x=places[:, 0] / np.float32(plane.x.factor),
            y=places[:, 1] / np.float32(plane.y.factor),
            mode="markers",
            marker={"size": 4, "color": AMBER, "symbol": "x-thin-open", "opacity": 0.45},
            hoverinfo="skip",
        )


def _add_front(figure: go.Figure, facts: ExploreFacts, plane: Plane) -> None:
    """The front; with a colour or a size, these show a quantity of each member."""
    view, front = facts.view, facts.plane
    _add_error_bars(figure, front.front, plane)
    if not view.colour and not view.size:
        add_points(figure, "front", [p for p in front.front if not p.tied], plane)
        add_points(figure, "front, tied with the next step", [p for p in front.front if p.tied], plane)
        return
    points = [p for p in front.members if all(of.name in p.values for of in (view.colour, view.size) if of)]
    if points:
        figure.add_scatter(
            name="front",
            **plane.scaled(points),
            customdata=[point.number for point in points],
            text=[hover(point, plane) for point in points],
            mode="markers",
            marker={**_coloured(points, view.colour), **_sized(points, view.size)},
            hovertemplate="%{text}<extra></extra>",
        )


def _add_error_bars(figure: go.Figure, points: Sequence[Point], plane: Plane) -> None:
    errors = [plane.errors(point) for point in points]
    if not any(dx or dy for dx, dy in errors):
        return
    figure.add_scatter(
        **plane.scaled(points),
        error_x={**error_bars([]), "array": [dx for dx, _ in errors], "color": faint(BLUE, 0.55)},
        error_y={**error_bars([]), "array": [dy for _, dy in errors], "color": faint(BLUE, 0.55)},
        mode="markers",
        marker={"size": 1, "opacity": 0},
        hoverinfo="skip",
        showlegend=False,
    )


def _coloured(points: Sequence[Point], of: Quantity | None) -> dict[str, Any]:
    if of is None:
        return {"color": BLUE}
    values = [point.values[of.name].value for point in points]
    factor, unit = of.scale(values)
    bar = {"title": {"text": of.title(unit), "side": "right"}, "thickness": 12, "outlinewidth": 0, "len": 0.9}
    return {"color": [value / factor for value in values], "colorscale": SCALE, "colorbar": bar}


def _sized(points: Sequence[Point], of: Quantity | None) -> dict[str, Any]:
    edge = {"line": {"width": 0.8, "color": GREY}}
    if of is None:
        return {"size": 11, **edge}
    values = [point.values[of.name].value for point in points]
    low, spread = min(values), (max(values) - min(values)) or 1.0
    return {"size": [SIZES[0] + (SIZES[1] - SIZES[0]) * (v - low) / spread for v in values], **edge}


def _add_overlays(figure: go.Figure, facts: ExploreFacts, plane: Plane) -> None:
    for each, mark in zip(_drawn(facts), MARKS[1:], strict=False):
        add_line(figure, each.plane, plane, mark.colour, group=each.name)
        points = each.plane.front
        figure.add_scatter(
            name=each.name,
            **plane.scaled(points),
            text=[f"{escape(each.name)}<br>{hover(point, plane)}" for point in points],
            mode="markers",
            marker={"size": 9, "color": mark.colour, "symbol": mark.symbol},
            hovertemplate="%{text}<extra></extra>",
            legendgroup=each.name,
        )


def _add_baselines(figure: go.Figure, facts: ExploreFacts, plane: Plane) -> None:
    points = facts.baselines
    if points:
        figure.add_scatter(
            name="baselines, trained from scratch",
            x=[point.x.value / plane.x.factor for point in points],
            y=[point.y.value / plane.y.factor for point in points],
            text=[escape(point.name) for point in points],
            customdata=[f"{point.steps:,} steps from scratch" for point in points],
            mode="markers+text",
            textposition="top center",
            textfont={"size": 11, "color": GREY},
            marker={"size": 12, "color": AMBER, "symbol": "star"},
            hovertemplate="<b>%{text}</b><br>%{customdata}<extra></extra>",
        )


def _add_marks(figure: go.Figure, facts: ExploreFacts, plane: Plane) -> None:
    """The knee, the best under the bounds, and what the reader picked: rings, each with its word."""
    known = {point.number: point for point in (*facts.plane.members, facts.best, facts.picked) if point}
    rings = [
        ("knee", known.get(facts.knee) if facts.knee is not None else None, GREY, 17),
        ("best under the bounds", facts.best if facts.view.bounds else None, ORANGE, 21),
        ("picked", facts.picked, ORANGE, 25),
    ]
    for word, point, colour, size in rings:
        if point is None:
            continue
        scaled = plane.scaled([point])
        figure.add_scatter(
            name=word,
            **scaled,
            mode="markers",
            marker={
                "size": size,
                "symbol": "circle-open",
                "color": colour,
                "line": {"width": 2.4 if word == "picked" else 1.6},
            },
            hoverinfo="skip",
        )
