"""The plane of two quantities: how its axes are scaled and titled, and what a point in it says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import plotly.graph_objects as go

from dashboards.facts import FrontFacts, Point
from dashboards.facts.density import is_wide
from dashboards.facts.networks import quantity_among
from dashboards.facts.quantities import Quantity
from nas.study.trial import Value

Corner = tuple[float, float]

HOVER_LINE = 56
"""Characters of an architecture under the mouse pointer."""


@dataclass(frozen=True)
class Axis:
    """A quantity along an axis: `factor` and `unit` scale it, `worst` is its worst value, scaled.

    `known` says how the values of the front are known, where that is not one and the same for all numbers.
    """

    quantity: Quantity
    factor: float
    unit: str
    worst: float
    logarithmic: bool
    known: str = ""

    @property
    def sign(self) -> float:
        """The sign that turns the quantity into a cost."""
        return -1.0 if self.quantity.maximise else 1.0

    @property
    def layout(self) -> dict[str, Any]:
        """Title and kind of the axis, for Plotly."""
        return {
            "title_text": self.quantity.title(self.unit, self.known),
            "type": "log" if self.logarithmic else "linear",
        }


@dataclass(frozen=True)
class Plane:
    """The two axes of a front's figure."""

    x: Axis
    y: Axis
    objectives: tuple[Quantity, ...] = ()

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
    return Plane(_axis(fronts, "x", dominated), _axis(fronts, "y", dominated), fronts[0].objectives)


def _axis(fronts: Sequence[FrontFacts], name: str, dominated: bool) -> Axis:
    known = [getattr(point, name) for facts in fronts for point in facts.members]
    values = [value.value for value in known]
    for facts in fronts if dominated else ():
        values += getattr(facts.dominated, name)
        values += (
            [getattr(facts.density, name).low, getattr(facts.density, name).high] if facts.density else []
        )
    quantity: Quantity = getattr(fronts[0], name)
    factor, unit = quantity.scale(values)
    sign = -1.0 if quantity.maximise else 1.0
    asked = fronts[0].logarithmic[0 if name == "x" else 1]
    logarithmic = min(values) > 0 and (is_wide(min(values), max(values)) if asked is None else asked)
    return Axis(
        quantity, factor, unit, max(sign * value for value in values) / factor, logarithmic, _known(known)
    )


def _known(values: Sequence[Value]) -> str:
    """How these are known: measured, predicted, or one and the other; nothing of what is exact or a score."""
    predicted = any(value.is_predicted for value in values)
    if not any(value.source.startswith("measured") for value in values):
        return "predicted" if predicted else ""
    return "partly measured" if predicted else "measured"


def hover(point: Point, plane: Plane) -> str:
    """The text of a point under the mouse pointer: few lines, so that it covers little."""
    axes = plane.x.quantity, plane.y.quantity
    values = {axes[0].name: point.x, axes[1].name: point.y, **point.values}
    lines = [f"<b>{escape(point.digest)}</b>  trial {point.number:,}"]
    for name, value in values.items():
        shown = quantity_among((*axes, *plane.objectives), name)
        lines.append(f"{escape(shown.label)}: {escape(shown.of(value))} ({escape(value.source)})")
    lines.append(f"<i>{escape(_cut(point.one_line))}</i>")
    if point.tied:
        lines.append("<i>tied: within the error, the next step is no worse</i>")
    return "<br>".join(lines)


def _cut(text: str) -> str:
    return text if len(text) <= HOVER_LINE else f"{text[: HOVER_LINE - 1]}…"
