"""How a window shows figures: by day or by night, and as wide as a phone or wider.

The browser says both in few words, "dark narrow", which every callback that draws is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from dash import dcc, html
from dash.development.base_component import Component

from dashboards.app.controls import GRAPH
from dashboards.figures.drawing import LEAST_WIDTH, legend_below
from dashboards.style.theme import SCHEMES, with_scheme

STATIC: Any = {**GRAPH, "displayModeBar": False}

NARROW = "narrow"


@dataclass(frozen=True)
class Look:
    """A colour scheme, and whether the window is narrow."""

    scheme: str = "light"
    narrow: bool = False

    @classmethod
    def read(cls, given: Any) -> Look:
        """What a browser said, whatever that is."""
        words = given.split() if isinstance(given, str) else []
        return cls(next((word for word in words if word in SCHEMES), "light"), NARROW in words)

    def __str__(self) -> str:
        return f"{self.scheme} {NARROW}" if self.narrow else self.scheme

    def dressed(self, figure: go.Figure) -> go.Figure:
        """A figure in this scheme; where the window is narrow, with its legend below it."""
        return with_scheme(legend_below(figure) if self.narrow else figure, self.scheme)

    def graph(self, figure: go.Figure) -> Component:
        """A figure that stands still; one that is wider than the window is pushed sideways."""
        shown = self.dressed(figure)
        least = int((shown.layout.meta or {}).get(LEAST_WIDTH, 0))
        style = {"minWidth": f"{least}px", "height": f"{shown.layout.height}px"}
        return html.Div(dcc.Graph(figure=shown, config=STATIC, style=style), className="scroll", tabIndex="0")
