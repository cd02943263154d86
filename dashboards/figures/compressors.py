"""Bits per byte of the best networks beside those of general-purpose compressors."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from dashboards.facts import Facts
from dashboards.facts.quantities import QUALITY
from dashboards.figures import figures
from dashboards.figures.drawing import error_bars
from dashboards.style.theme import BLUE, GREY, ORANGE, empty_figure, message_figure
from foundation.text import with_error
from nas.study.trial import Value


@dataclass(frozen=True)
class Bar:
    """One bar of the figure."""

    name: str
    value: Value
    colour: str


@figures.add
def compressors(facts: Facts) -> go.Figure:
    """Compressors, the best of the search, and the best trained from scratch; less is better."""
    bars = sorted(_bars(facts), key=lambda bar: bar.value.value)
    if not bars:
        return message_figure("nothing was scored in bits per byte")
    figure = empty_figure(70 + 30 * len(bars))
    figure.add_bar(
        x=[bar.value.value for bar in bars],
        y=[bar.name for bar in bars],
        error_x={**error_bars(bar.value for bar in bars), "color": GREY},
        orientation="h",
        marker={"color": [bar.colour for bar in bars]},
        text=[with_error(bar.value.value, bar.value.error or 0.0) for bar in bars],
        textposition="inside",
        insidetextanchor="start",
        textfont={"color": "#ffffff"},
        hoverinfo="skip",
    )
    figure.update_xaxes(title_text="bits per byte, less is better", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure.update_layout(margin={"t": 8, "b": 48}, bargap=0.3)


def _bars(facts: Facts) -> list[Bar]:
    bars = []
    if facts.corpus is not None:
        bars += [Bar(name, Value(value), GREY) for name, value in facts.corpus.reference.items()]
    searched = [network.values[QUALITY] for network in facts.front if QUALITY in network.values]
    if searched:
        best = min(searched, key=lambda value: value.value)
        bars.append(Bar(f"best of the search ({best.source})", best, BLUE))
    trained = [f.last for f in facts.finals.finalists if f.last] if facts.finals else []
    if trained:
        steps, best = min(trained, key=lambda last: last[1].value)
        bars.append(Bar(f"best from scratch, {steps:,} steps", best, ORANGE))
    return bars
