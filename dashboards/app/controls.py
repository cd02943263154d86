"""Controls and small parts that several pages have: pickers, sliders of bounds, terms, commands to copy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dash import dcc, html
from dash.development.base_component import Component

from dashboards.facts.quantities import Quantity
from dashboards.facts.scored import Scored
from dashboards.facts.terms import TERMS, about
from nas.study.study import Study

GRAPH: Any = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["zoomIn2d", "zoomOut2d", "autoScale2d", "toggleSpikelines"],
    "toImageButtonOptions": {"format": "svg", "filename": "figure"},
    "responsive": True,
}
"""Plotly's settings of a figure that may be zoomed, lassoed and saved."""

STEPS = 200
"""Steps of a slider from one end to the other, at least."""


def explained(shown: str, about: str) -> Component:
    """Words that say what they mean: under the mouse, when they are tapped, and when keys reach them."""
    return html.Abbr(shown, title=about, tabIndex=0)


def term(word: str, shown: str | None = None) -> Component:
    """A word that says what it means."""
    return explained(shown or word, TERMS[word])


def plain(parts: Sequence[Component | str]) -> str:
    """A sentence with explained words as text alone."""
    return "".join(part if isinstance(part, str) else str(part.children) for part in parts)


def label_of(of: Quantity, study: Study | None = None) -> Component | str:
    """The name of a quantity, which says what it is."""
    text = about(of, study)
    return explained(of.label, text) if text else of.label


def picker(
    name: str, identity: str, options: Sequence[Mapping[str, str]], value: Any, **more: Any
) -> Component:
    """A menu under its name."""
    settings: dict[str, Any] = {"clearable": False, "searchable": len(options) > 12, **more}
    return html.Label([html.Span(name), dcc.Dropdown(list(options), value, id=identity, **settings)])


def options_of(quantities: Iterable[Quantity]) -> list[dict[str, str]]:
    """The entries of a menu of quantities."""
    return [{"label": of.label, "value": of.name} for of in quantities]


def command(text: str) -> Component:
    """A shell command with a button that copies it."""
    return html.Div([html.Code(text), dcc.Clipboard(content=text, title="copy")], className="command")


NO_BOUND = 1
"""Where a hidden slider stands, which bounds nothing."""


@dataclass(frozen=True)
class Slider:
    """A bound on a quantity: from its best to its worst value, in units of `factor`."""

    of: Quantity
    factor: float
    unit: str
    low: float
    high: float

    @property
    def free(self) -> float:
        """Where the slider stands while nothing is bounded."""
        return self.low if self.of.maximise else self.high

    @property
    def step(self) -> float:
        """A round step, so that numbers stay short."""
        size = (self.high - self.low) / STEPS
        power = 10.0 ** math.floor(math.log10(size))
        return next(power * each for each in (1, 2, 5, 10) if power * each >= 0.999 * size)

    @property
    def plain(self) -> list[Any]:
        """What the page keeps of it."""
        return [self.of.name, self.factor, self.free]


def slider_of(of: Quantity, scored: Scored) -> Slider | None:
    """The slider of a quantity over the networks of a study; None where all are alike."""
    values = scored.values(of.name)
    values = values[np.isfinite(values)]
    if not len(values) or values.min() == values.max():
        return None
    factor, unit = of.scale([float(np.median(np.abs(values)))])
    slider = Slider(of, factor, unit, float(values.min()) / factor, float(values.max()) / factor)
    step = slider.step
    places = max(0, -math.floor(math.log10(step)))
    low, high = math.floor(slider.low / step) * step, math.ceil(slider.high / step) * step
    return Slider(of, factor, unit, round(low, places), round(high, places))


def slider_row(slider: Slider | None, identity: str, value: float | None, study: Study) -> Component:
    """A slider under the name of its quantity; without one, a hidden place for it."""
    if slider is None:
        return html.Div(dcc.Slider(0, NO_BOUND, value=NO_BOUND, id=identity), hidden=True)
    sign = "at least" if slider.of.maximise else "at most"
    inside = value is not None and slider.low <= value <= slider.high
    unit = f" {slider.unit}" if slider.unit else ""
    return html.Div(
        [
            html.Div([label_of(slider.of, study), html.Span(f" {sign}{unit}", className="muted")]),
            dcc.Slider(
                slider.low,
                slider.high,
                step=slider.step,
                value=value if inside else slider.free,
                marks=None,
                id=identity,
                updatemode="mouseup",
            ),
        ],
        className="bound",
    )


def bounds_of(kept: Any, values: Sequence[Any]) -> dict[str, float]:
    """The bounds that sliders set; `kept` is what the page keeps of each (`Slider.plain`)."""
    bounds: dict[str, float] = {}
    for each, value in zip(kept if isinstance(kept, list) else [], values, strict=False):
        match each:
            case [str(name), int() | float() as factor, int() | float() as free]:
                sound = isinstance(value, int | float) and math.isfinite(value)
                if sound and math.isfinite(factor) and value != free:
                    bounds[name] = float(value) * factor
    return bounds
