"""Bits per byte of the best networks on one line with general-purpose compressors."""

from __future__ import annotations

import plotly.graph_objects as go

from dashboards.facts import Facts
from dashboards.facts.ties import QUALITY
from dashboards.figures import figures
from dashboards.style.theme import BLUE, GREY, ORANGE, blank, message_figure
from foundation.text import with_error


@figures.add
def compressors(facts: Facts) -> go.Figure:
    """Compressors, the best of the search, and the best trained from scratch; less is better."""
    rows: list[tuple[str, float, float | None, str]] = []
    if facts.corpus is not None:
        rows += [(name, value, None, GREY) for name, value in facts.corpus.reference.items()]
    searched = [n.values[QUALITY] for n in facts.front if QUALITY in n.values]
    if searched:
        best = min(searched, key=lambda value: value.value)
        rows.append((f"best of the search ({best.source})", best.value, best.error, BLUE))
    trained = [f.last for f in facts.finals.finalists if f.last] if facts.finals else []
    if trained:
        steps, best = min(trained, key=lambda pair: pair[1].value)
        rows.append((f"best from scratch, {steps:,} steps", best.value, best.error, ORANGE))
    if not rows:
        return message_figure("nothing was scored in bits per byte")
    rows.sort(key=lambda row: row[1])
    figure = blank(70 + 30 * len(rows))
    figure.add_bar(
        x=[value for _, value, _, _ in rows],
        y=[name for name, _, _, _ in rows],
        error_x={
            "type": "data",
            "array": [error or 0.0 for _, _, error, _ in rows],
            "width": 0,
            "color": GREY,
        },
        orientation="h",
        marker={"color": [colour for *_, colour in rows]},
        text=[with_error(value, error or 0.0) for _, value, error, _ in rows],
        textposition="inside",
        insidetextanchor="start",
        textfont={"color": "#ffffff"},
        hoverinfo="skip",
    )
    figure.update_xaxes(title_text="bits per byte, less is better", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure.update_layout(margin={"t": 8, "b": 48}, bargap=0.3)
