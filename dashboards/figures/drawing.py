"""Parts that several figures draw: error bars, and curves thinned to as many points as a screen shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nas.study.trial import Value

CURVE_POINTS = 1500

LEAST_WIDTH = "least_width"
"""In the `meta` of a layout: where a page is narrower than so many pixels, it scrolls the figure."""


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
