"""The controls of a front's page: what lies on the axes, what a network may cost, and the sentence below."""

from __future__ import annotations

from collections.abc import Sequence

from dash import dcc, html
from dash.development.base_component import Component

from dashboards.app.controls import Slider, options_of, picker, slider_row, term
from dashboards.app.front_view import bound_word
from dashboards.facts.quantities import Quantity
from dashboards.facts.reading import Reading
from dashboards.facts.rescoring import tables_for
from dashboards.pages.base import Place

MOST_BOUNDS = 6
"""Sliders; a study with more objectives has none for the others."""

BOUNDS = tuple(f"front-bound-{i}" for i in range(MOST_BOUNDS))

AXES = ("x", "y", "z", "colour", "size")


def front_pickers(
    place: Place, reading: Reading, quantities: Sequence[Quantity], axes: tuple[str, str], over: Sequence[str]
) -> Component:
    """Menus of quantities, of tables, and of the studies that may be laid `over` it."""
    names, options = [of.name for of in quantities], options_of(quantities)
    menus = [
        picker(label, f"front-{word}", options, place.one(word, names, usual))
        for label, word, usual in (("horizontal", "x", axes[0]), ("vertical", "y", axes[1]))
    ]
    menus += [
        picker(
            label,
            f"front-{word}",
            options,
            place.one(word, names) or None,
            clearable=True,
            placeholder="none",
        )
        for label, word in (("third axis", "z"), ("colour", "colour"), ("size", "size"))
    ]
    logs = [{"label": f"{name}", "value": axis} for name, axis in (("horizontal", "x"), ("vertical", "y"))]
    menus.append(
        html.Label(
            [
                html.Span("swap linear and log"),
                dcc.Checklist(logs, place.some("log", ("x", "y")), id="front-log", inline=True),
            ]
        )
    )
    tables = [{"label": label, "value": word} for word, label in tables_for(reading).items()]
    table = place.one("table", [each["value"] for each in tables]) or None
    menus.append(
        picker(
            "latency from",
            "front-table",
            tables,
            table,
            clearable=True,
            placeholder="the search, and measured",
        )
    )
    studies = [{"label": name, "value": name} for name in over]
    menus.append(
        picker(
            "lay over it",
            "front-over",
            studies,
            place.some("over", over),
            multi=True,
            placeholder="other studies",
        )
    )
    return html.Div(menus, className="pickers")


def front_sliders(place: Place, reading: Reading, sliders: Sequence[Slider | None]) -> list[Component]:
    """A slider for each objective, as the address has it."""
    return [
        slider_row(slider, name, place.number(bound_word(slider.of)) if slider else None, reading.study)
        for slider, name in zip(sliders, BOUNDS, strict=True)
    ]


CAPTION: list[Component | str] = [
    "Each point is an architecture: blue ones are on the ",
    term("front"),
    ", grey ones are ",
    term("beaten"),
    ". Bars and the band are ",
    term("±", "one standard error"),
    "; a grey ring, where there is one, marks the ",
    term("knee"),
    ". Hollow points are ",
    term("tied"),
    " with the next step, orange rings mark each ",
    term("finalist"),
    ", stars each ",
    term("baseline"),
    ". Click a point to see its network, drag to zoom, double-click to see all.",
]
