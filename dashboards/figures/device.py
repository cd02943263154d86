"""A latency table as curves, and whole networks as predicted and as measured.

Not in the registry of figures, which draw the facts of a study: these draw a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.facts.device import FITTED, HELD_OUT, MEMBER, BlockCurve, CurvePoint, DeviceCurves, WholePair
from dashboards.figures.drawing import LEAST_WIDTH
from dashboards.figures.table_error import TITLES, add_agreement
from dashboards.style.theme import AMBER, BLUE, GREEN, GREY, LIGHT, ORANGE, PURPLE, SKY, template

HUES = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY, GREY)
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "star")
DASHES = ("solid", "dash", "dot")
"""Blocks beyond the seventh have the hues again, with other marks, in other lines where these are free."""

LOOKS = {FITTED: (GREY, "circle-open"), HELD_OUT: (BLUE, "circle"), MEMBER: (ORANGE, "diamond")}
PANEL = 300


APART = (0.18, 0.12)
"""Of the height of a figure with two panels below each other, and with three, between them."""

SECOND = "dot"
"""The lines of a second table."""


def curves_figure(
    facts: DeviceCurves, second: Mapping[str, BlockCurve] | None = None, *, narrow: bool = False
) -> go.Figure:
    """Latency by width, of prefill and of a decode step, and of a decode step by where it stands.

    The curves of a second table are dotted, each in the hue of the same block; axes are logarithmic then,
    since devices differ by factors. In a `narrow` one the panels stand below each other.
    """
    titles = ["prefill", "decode, per token", f"decode, per token, at width {facts.width}"]
    figure = _panels(titles, 0.07, narrow=narrow)
    rows = -(-len(facts.curves) // 5)
    top = 50 + 20 * rows
    figure.update_layout(height=3 * 280 if narrow else 360 + top)
    for i, curve in enumerate(facts.curves):
        hue, dash = HUES[i % 7], DASHES[i // 7 % 3] if second is None else "solid"
        symbol = SYMBOLS[(i + i // 7) % 7]
        _add_curve(figure, curve, i, hue, symbol=symbol, dash=dash, places=_places(3, narrow))
        if second is not None and curve.name in second:
            again = {"symbol": symbol, "dash": SECOND, "told": "second table: "}
            _add_curve(figure, second[curve.name], i, hue, places=_places(3, narrow), **again)
    figure.update_xaxes(title_text="width, d_model (channels)")
    row, column = _places(3, narrow)[-1]
    figure.update_xaxes(title_text="position (tokens)", row=row, col=column)
    figure.update_yaxes(title_text="added latency (ms)", col=1)
    figure.update_yaxes(**({"type": "log", "dtick": "D2"} if second else {"rangemode": "tozero"}))
    return figure.update_layout(
        meta={LEAST_WIDTH: 0 if narrow else 3 * PANEL},
        margin={"l": 60, "r": 8, "t": top, "b": 52},
        legend={"y": 1, "yref": "container", "yanchor": "top"},
    )


def _places(panels: int, narrow: bool) -> list[tuple[int, int]]:
    """Row and column of each panel: beside each other, or in a `narrow` figure below each other."""
    return [(i, 1) if narrow else (1, i) for i in range(1, panels + 1)]


def _panels(titles: Sequence[str], apart: float, *, narrow: bool) -> go.Figure:
    """Empty panels under their titles."""
    rows, columns = _places(max(1, len(titles)), narrow)[-1]
    figure = make_subplots(
        rows, columns, subplot_titles=titles, horizontal_spacing=apart, vertical_spacing=APART[rows > 2]
    )
    return figure.update_layout(template=template(LIGHT)).update_annotations(font_size=13)


def _add_curve(
    figure: go.Figure,
    curve: BlockCurve,
    group: int,
    hue: str,
    *,
    places: Sequence[tuple[int, int]],
    symbol: str,
    dash: str,
    told: str = "",
) -> None:
    """One block in all panels; it is named once, by the first table."""
    panels = (curve.by_width["prefill_ms"], curve.by_width["decode_ms"], curve.by_position)
    for (row, column), points in zip(places, panels, strict=True):
        figure.add_scatter(
            name=escape(curve.name),
            legendgroup=str(group),
            showlegend=row == column == 1 and not told,
            customdata=[told + _told(curve.text, point) for point in points],
            hovertemplate="%{customdata}<extra></extra>",
            line={"color": hue, "width": 1.6, "dash": dash},
            **_points(points, hue, symbol),
            row=row,
            col=column,
        )


def _points(points: Sequence[CurvePoint], hue: str, symbol: str) -> dict[str, Any]:
    """A curve, filled where it was measured."""
    return {
        "x": [point.at for point in points],
        "y": [point.ms for point in points],
        "error_y": {
            "type": "data",
            "array": [point.error for point in points],
            "width": 0,
            "thickness": 1,
            "color": hue,
        },
        "mode": "lines+markers",
        "marker": {
            "size": 8,
            "color": hue,
            "symbol": [symbol if point.measured else f"{symbol}-open" for point in points],
        },
    }


def _told(text: str, point: CurvePoint) -> str:
    how = "measured" if point.measured else "interpolated"
    return f"{escape(text)}<br>{point.at:g}: {point.ms:.3g} ± {point.error:.2g} ms, {how}"


def pairs_figure(pairs: Mapping[str, Sequence[WholePair]], *, narrow: bool = False) -> go.Figure:
    """One panel for each reading that has any, with the line where both agree."""
    known = {name: some for name, some in pairs.items() if some}
    titles = [TITLES.get(name, name) for name in known]
    figure = _panels(titles, 0.1, narrow=narrow)
    figure.update_layout(height=330 * max(1, len(known)) if narrow else 400)
    named = set[str]()
    for place, some in zip(_places(len(known), narrow), known.values(), strict=True):
        add_agreement(figure, (value for p in some for value in (p.predicted, p.measured)), place)
        for role, (hue, symbol) in LOOKS.items():
            chosen = [pair for pair in some if pair.role == role]
            if chosen:
                figure.add_scatter(
                    **_scattered(chosen, hue, symbol),
                    name=role,
                    legendgroup=role,
                    showlegend=role not in named,
                    row=place[0],
                    col=place[1],
                )
                named.add(role)
    figure.update_xaxes(title_text="predicted (ms)")
    figure.update_yaxes(title_text="measured (ms)", col=1)
    return figure.update_layout(
        meta={LEAST_WIDTH: 0 if narrow else PANEL * max(1, len(known))},
        margin={"l": 60, "r": 8, "t": 76, "b": 52},
        legend={"y": 1, "yref": "container", "yanchor": "top"},
    )


def _scattered(pairs: Sequence[WholePair], hue: str, symbol: str) -> dict[str, Any]:
    bars: dict[str, Any] = {"type": "data", "width": 0, "thickness": 1, "color": hue}
    return {
        "x": [pair.predicted for pair in pairs],
        "y": [pair.measured for pair in pairs],
        "error_x": {**bars, "array": [pair.predicted_error for pair in pairs]},
        "error_y": {**bars, "array": [pair.measured_error for pair in pairs]},
        "mode": "markers",
        "marker": {"size": 8, "color": hue, "symbol": symbol},
        "hovertemplate": "predicted %{x:.3g} ms<br>measured %{y:.3g} ms<extra></extra>",
    }
