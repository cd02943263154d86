"""Colours, type and Plotly templates, in a light and a dark scheme.

Marks have the hues of Okabe and Ito (2008), which people with colour blindness can distinguish, with enough
contrast on white and on near-black. Text and grid come from a template, so that a page can switch a figure to
dark without drawing it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

BLUE = "#2a7fba"
ORANGE = "#d9660f"
GREEN = "#12997a"
PURPLE = "#a8599b"
AMBER = "#b58900"
GREY = "#8d9299"
SKY = "#5fa8d3"

SANS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", Arial, sans-serif'
SERIF = '"Iowan Old Style", "Palatino Linotype", Palatino, "Source Serif 4", "Noto Serif", Georgia, serif'
MONO = 'ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace'


@dataclass(frozen=True)
class Mark:
    """How one of several studies is drawn: by colour and shape; `sign` is the shape as a letter."""

    colour: str
    symbol: str
    sign: str


MARKS = (
    Mark(BLUE, "circle", "●"),
    Mark(ORANGE, "square", "■"),
    Mark(GREEN, "diamond", "◆"),
    Mark(PURPLE, "triangle-up", "▲"),
    Mark(AMBER, "triangle-down", "▼"),
    Mark(GREY, "star", "★"),
)
"""At most this many studies can be distinguished in one figure."""


@dataclass(frozen=True)
class ColourScheme:
    """The colours of a page."""

    paper: str
    raised: str
    ink: str
    muted: str
    rule: str
    link: str


LIGHT = ColourScheme(
    paper="#ffffff", raised="#f6f6f3", ink="#1d2126", muted="#646b73", rule="#e3e3de", link="#1a659b"
)
DARK = ColourScheme(
    paper="#15181c", raised="#1e2227", ink="#e6e7e8", muted="#a0a7af", rule="#32373e", link="#72b4e3"
)
SCHEMES = {"light": LIGHT, "dark": DARK}


def template(scheme: ColourScheme) -> go.layout.Template:
    """Everything about a figure that depends on the colour scheme of its page."""
    axis: dict[str, Any] = {
        "gridcolor": scheme.rule,
        "gridwidth": 1,
        "zeroline": False,
        "linecolor": scheme.muted,
        "showline": False,
        "ticks": "",
        "tickfont": {"size": 12, "color": scheme.muted},
        "ticklabelstandoff": 4,
        "title": {"font": {"size": 13, "color": scheme.ink}, "standoff": 12},
        "automargin": True,
    }
    layout = {
        "font": {"family": SANS, "size": 13, "color": scheme.ink},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": axis,
        "yaxis": axis,
        "hoverlabel": {
            "bgcolor": scheme.raised,
            "bordercolor": scheme.rule,
            "align": "left",
            "font": {"family": SANS, "size": 12, "color": scheme.ink},
        },
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "bottom",
            "font": {"size": 12, "color": scheme.ink},
            "bgcolor": "rgba(0,0,0,0)",
            "itemsizing": "trace",
        },
        "annotationdefaults": {"font": {"size": 12, "color": scheme.muted}, "showarrow": False},
        "margin": {"l": 64, "r": 16, "t": 44, "b": 56},
        "dragmode": "zoom",
        "modebar": {
            "bgcolor": "rgba(0,0,0,0)",
            "color": scheme.muted,
            "activecolor": scheme.ink,
        },
        "hovermode": "closest",
    }
    return go.layout.Template(layout=layout)


def faint(colour: str, opacity: float) -> str:
    """A colour `#rrggbb` with an opacity of `opacity`."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity:g})"


def empty_figure(height: int = 420) -> go.Figure:
    """A figure without traces."""
    return go.Figure(layout={"template": template(LIGHT), "height": height})


def blank_figure(height: int = 420) -> go.Figure:
    """A figure without axes: the place of one that is still to be drawn."""
    figure = empty_figure(height)
    figure.update_xaxes(visible=False)
    return figure.update_yaxes(visible=False)


def message_figure(text: str, height: int = 200) -> go.Figure:
    """A figure that shows a message instead of data."""
    return blank_figure(height).add_annotation(text=text, x=0.5, y=0.5, xref="paper", yref="paper")


def with_scheme(figure: go.Figure, scheme: str) -> go.Figure:
    """The same figure in another colour scheme."""
    return figure.update_layout(template=template(SCHEMES[scheme]))
