"""The front in three quantities, as points in space over what it beats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from dashboards.facts.density import is_wide
from dashboards.facts.explore import ExploreFacts
from dashboards.facts.front import Point
from dashboards.facts.quantities import Quantity
from dashboards.figures.plane import hover, plane_of
from dashboards.style.theme import BLUE, GREY, ORANGE, empty_figure, message_figure


def space_figure(facts: ExploreFacts, height: int = 560) -> go.Figure:
    """Three axes; a network on the front of these three is a blue point, what it beats is grey."""
    view = facts.view
    if view.z is None or not facts.space:
        return message_figure("no network that keeps the bounds has all three numbers", height)
    figure, axes = empty_figure(height), (view.x, view.y, view.z)
    columns = list(zip(*(_coordinates(point, axes) for point in facts.space), strict=True))
    beaten = list(zip(*facts.cloud, strict=True)) or [(), (), ()]
    scales = [of.scale([*known, *more]) for of, known, more in zip(axes, columns, beaten, strict=True)]
    _add(figure, "dominated", beaten, scales, marker={"size": 2, "color": GREY, "opacity": 0.5})
    plane = plane_of([facts.plane])
    _add(
        figure,
        "front",
        columns,
        scales,
        marker={"size": 5, "color": BLUE},
        customdata=[point.number for point in facts.space],
        text=[hover(point, plane) for point in facts.space],
        hovertemplate="%{text}<extra></extra>",
    )
    for word, point in (
        ("best under the bounds", facts.best if view.bounds else None),
        ("picked", facts.picked),
    ):
        if point is not None and view.z.name in point.values:
            ring = {"size": 11, "color": ORANGE, "symbol": "circle-open"}
            _add(figure, word, [(v,) for v in _coordinates(point, axes)], scales, marker=ring)
    return figure.update_layout(scene=_scene(axes, scales, columns), margin={"l": 0, "r": 0, "t": 40, "b": 0})


def _coordinates(point: Point, axes: Sequence[Quantity]) -> tuple[float, ...]:
    known = {axes[0].name: point.x, axes[1].name: point.y, **point.values}
    return tuple(known[of.name].value for of in axes)


def _add(
    figure: go.Figure, name: str, columns: Sequence[Sequence[float]], scales: Sequence[Any], **settings: Any
) -> None:
    scaled = [[v / factor for v in column] for column, (factor, _) in zip(columns, scales, strict=True)]
    settings = {"hoverinfo": "skip", **settings} if "hovertemplate" not in settings else settings
    figure.add_scatter3d(name=name, **dict(zip("xyz", scaled, strict=True)), mode="markers", **settings)


def _scene(
    axes: Sequence[Quantity], scales: Sequence[Any], columns: Sequence[Sequence[float]]
) -> dict[str, Any]:
    scene: dict[str, Any] = {"bgcolor": "rgba(0,0,0,0)"}
    for letter, of, (_, unit), values in zip("xyz", axes, scales, columns, strict=True):
        kind = "log" if is_wide(min(values), max(values)) else "linear"
        scene[f"{letter}axis"] = {
            "title": {"text": of.title(unit)},
            "type": kind,
            "color": GREY,
            "gridcolor": GREY,
            "showbackground": False,
        }
    return scene
