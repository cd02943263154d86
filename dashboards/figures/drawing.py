"""Parts that several figures draw: error bars, and curves thinned to as many points as a screen shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import plotly.graph_objects as go

from nas.study.trial import Value

CURVE_POINTS = 1500

LEAST_WIDTH = "least_width"
"""In the `meta` of a layout: where a page is narrower than so many pixels, it scrolls the figure."""


TOP, BARE_TOP = 40, 12
"""Pixels above a plot, where the legend is elsewhere: for its title, and without one."""

LINE, LETTER, SIGN = 19, 6.2, 44
"""Pixels of a line of a legend, of a letter there, and of the mark before a name."""

PHONE = 360
"""Pixels of a figure on a phone."""


def legend_below(figure: go.Figure) -> go.Figure:
    """The same figure with its legend under it, which makes it higher by as many lines as a phone needs."""
    names = {
        trace.legendgroup or trace.name: trace.name
        for trace in figure.data
        if trace.name and trace.showlegend is not False
    }
    if len(names) < 2 and not any(trace.showlegend for trace in figure.data):
        return figure
    longest = max((len(name) for name in names.values()), default=0)
    columns = max(1, int(PHONE // (SIGN + LETTER * longest)))
    lines = -(-len(names) // columns)
    legend = {"x": 0, "xref": "container", "y": 0, "yref": "container", "yanchor": "bottom", "font_size": 11}
    return figure.update_layout(
        legend=legend,
        height=(figure.layout.height or 0) + LINE * lines,
        margin_t=TOP if any(each.yref == "paper" for each in figure.layout.annotations) else BARE_TOP,
    )


def error_bars(values: Iterable[Value]) -> dict[str, Any]:
    """Plotly's settings for bars of one standard error."""
    return {"type": "data", "array": [value.error or 0.0 for value in values], "width": 0, "thickness": 1}


def whole_numbers(largest: float) -> dict[str, Any]:
    """Plotly's settings of an axis that counts: ticks at whole numbers only."""
    return {"tickformat": ",d", **({"dtick": 1} if largest < 8 else {})}


def thinned(length: int, most: int = CURVE_POINTS) -> list[int]:
    """At most about so many evenly spaced indices of a curve, the last one among them."""
    if length == 0:
        return []
    return sorted({*range(0, length, -(-length // most)), length - 1})
