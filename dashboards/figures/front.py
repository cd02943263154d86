"""The front, as the staircase it is, in a band of one standard error."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go

from dashboards.facts import Facts, FrontFacts, Point
from dashboards.facts.networks import quantity
from dashboards.figures import figures
from dashboards.style.theme import BLUE, GREY, ORANGE, blank, faint, message_figure
from nas.pareto import nondominated

VECTOR_POINTS = 3000
"""Up to this many points are drawn as vectors, which print well; more go through WebGL."""

BAND = 0.16
"""How much of its colour a band of one standard error has."""

Corner = tuple[float, float]


@figures.add
def front(facts: Facts) -> go.Figure:
    """The front of the first two objectives."""
    if not facts.fronts:
        return message_figure("no trial is complete yet, or there is one objective only")
    return front_figure(facts.fronts[0])


def front_figure(facts: FrontFacts, height: int = 470) -> go.Figure:
    """The plane of two quantities; a click finds its trial by the number in `customdata`."""
    figure = blank(height)
    if not facts.front:
        return message_figure("no trial is complete yet", height)
    scales = [
        axis.scale(values)
        for axis, values in ((facts.x, coordinates(facts, "x")), (facts.y, coordinates(facts, "y")))
    ]
    (by_x, unit_x), (by_y, unit_y) = scales
    _add_beaten(figure, facts, by_x, by_y)
    _add_points(figure, "front in other objectives", facts.elsewhere, facts, by_x, by_y)
    _add_stairs(figure, facts, by_x, by_y)
    _add_points(figure, "front", [p for p in facts.front if not p.tied], facts, by_x, by_y)
    _add_points(
        figure, "front, tied with the next step", [p for p in facts.front if p.tied], facts, by_x, by_y
    )
    _add_finalists(figure, facts, by_x, by_y)
    figure.update_xaxes(title_text=facts.x.title(unit_x), type=axis_kind(coordinates(facts, "x")))
    figure.update_yaxes(title_text=facts.y.title(unit_y), type=axis_kind(coordinates(facts, "y")))
    return figure


def coordinates(facts: FrontFacts, axis: str) -> list[float]:
    """Every coordinate along one axis."""
    told = [getattr(point, axis).value for point in (*facts.front, *facts.elsewhere)]
    return [*told, *getattr(facts.beaten, axis)]


def axis_kind(values: Sequence[float]) -> str:
    """Values over more than one power of ten or two are read better on a logarithmic axis."""
    return "log" if min(values) > 0 and max(values) > 30 * min(values) else "linear"


def _add_beaten(figure: go.Figure, facts: FrontFacts, by_x: float, by_y: float) -> None:
    beaten = facts.beaten
    if not beaten.numbers:
        return
    few = len(beaten.numbers) <= VECTOR_POINTS
    trace = go.Scatter if few else go.Scattergl
    figure.add_trace(
        trace(
            name="beaten",
            x=np.asarray(beaten.x, dtype=np.float32) / np.float32(by_x),
            y=np.asarray(beaten.y, dtype=np.float32) / np.float32(by_y),
            customdata=list(beaten.numbers),  # dash hands on what was clicked from plain lists only
            mode="markers",
            marker={"size": 5 if few else 4, "color": GREY, "opacity": 0.45 if few else 0.2},
            hovertemplate="trial %{customdata}<br>%{x:.4~g}, %{y:.4~g}<extra></extra>",
        )
    )


def _add_points(
    figure: go.Figure, name: str, points: Sequence[Point], facts: FrontFacts, by_x: float, by_y: float
) -> None:
    marks = {
        "front": {"size": 9, "color": BLUE},
        "front, tied with the next step": {
            "size": 9,
            "color": BLUE,
            "symbol": "circle-open",
            "line": {"width": 2},
        },
        "front in other objectives": {"size": 6, "color": BLUE, "opacity": 0.5},
    }
    if points:
        figure.add_scatter(
            name=name,
            x=[point.x.value / by_x for point in points],
            y=[point.y.value / by_y for point in points],
            customdata=[point.number for point in points],
            text=[hover(point, facts) for point in points],
            mode="markers",
            marker=marks[name],
            hovertemplate="%{text}<extra></extra>",
        )


def _add_finalists(figure: go.Figure, facts: FrontFacts, by_x: float, by_y: float) -> None:
    points = [point for point in (*facts.front, *facts.elsewhere) if point.finalist]
    if points:
        figure.add_scatter(
            name="trained from scratch",
            x=[point.x.value / by_x for point in points],
            y=[point.y.value / by_y for point in points],
            mode="markers",
            marker={"size": 16, "color": ORANGE, "symbol": "circle-open", "line": {"width": 1.8}},
            hoverinfo="skip",
        )


def _add_stairs(figure: go.Figure, facts: FrontFacts, by_x: float, by_y: float) -> None:
    turn_x, turn_y = turns(facts)
    worst = (
        max(v * turn_x / by_x for v in coordinates(facts, "x")),
        max(v * turn_y / by_y for v in coordinates(facts, "y")),
    )
    add_band(figure, facts, (by_x, by_y), worst, BLUE)
    add_line(figure, facts, (by_x, by_y), worst, BLUE)


def turns(facts: FrontFacts) -> Corner:
    """Per axis, the sign that makes less the better."""
    return (-1.0 if facts.x.maximise else 1.0, -1.0 if facts.y.maximise else 1.0)


def add_band(
    figure: go.Figure,
    facts: FrontFacts,
    by: Corner,
    worst: Corner,
    colour: str,
    *,
    group: str = "",
    share: float = BAND,
) -> None:
    """The staircase, give or take one standard error; `worst` is turned so that less is better."""
    turn_x, turn_y = turns(facts)
    corners, errors = (
        _corners(facts, by),
        [((p.x.error or 0.0) / by[0], (p.y.error or 0.0) / by[1]) for p in facts.front],
    )
    low = [(x - dx, y - dy) for (x, y), (dx, dy) in zip(corners, errors, strict=True)]
    high = [(x + dx, y + dy) for (x, y), (dx, dy) in zip(corners, errors, strict=True)]
    if low == high or len(corners) < 2:
        return
    edge = (max(worst[0], *(x for x, _ in high)), max(worst[1], *(y for _, y in high)))
    band = [*stairs(low, edge), *reversed(stairs(high, edge))]
    figure.add_scatter(
        name="± one standard error",
        x=[x * turn_x for x, _ in band],
        y=[y * turn_y for _, y in band],
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=faint(colour, share),
        hoverinfo="skip",
        showlegend=False,
        legendgroup=group,
    )


def add_line(
    figure: go.Figure, facts: FrontFacts, by: Corner, worst: Corner, colour: str, *, group: str = ""
) -> None:
    """The staircase itself."""
    turn_x, turn_y = turns(facts)
    line = stairs(_corners(facts, by), worst)
    figure.add_scatter(
        x=[x * turn_x for x, _ in line],
        y=[y * turn_y for _, y in line],
        mode="lines",
        line={"width": 1.6, "color": colour},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=group,
    )


def _corners(facts: FrontFacts, by: Corner) -> list[Corner]:
    turn_x, turn_y = turns(facts)
    return [(p.x.value * turn_x / by[0], p.y.value * turn_y / by[1]) for p in facts.front]


def stairs(points: Sequence[Corner], worst: Corner) -> list[Corner]:
    """The corners of the region that `points` dominate when less is better, out to the worst values."""
    kept = sorted(point for point, keep in zip(points, nondominated(points), strict=True) if keep)
    edge = (max(worst[0], kept[-1][0]), max(worst[1], kept[0][1]))
    line = [(kept[0][0], edge[1])]
    for (x, y), (then, _) in zip(kept, [*kept[1:], (edge[0], 0.0)], strict=True):
        line += [(x, y), (then, y)]
    return line


def hover(point: Point, facts: FrontFacts) -> str:
    """What a point says for itself."""
    values = {facts.x.name: point.x, facts.y.name: point.y, **point.values}
    lines = [f"<b>{escape(point.digest)}</b>  trial {point.number}"]
    lines += [escape(part) for part in point.strip.split(" | ")]
    for name, value in values.items():
        what = quantity(name)
        lines.append(f"{escape(what.label)}: {escape(what.of(value))} ({escape(value.source)})")
    if point.tied:
        lines.append("<i>tied: the next step is no worse, as far as one can tell</i>")
    return "<br>".join(lines)
