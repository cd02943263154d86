"""The hypervolume of the front, trial by trial: whether the search still improves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go

from dashboards.facts import Facts, HypervolumeFacts
from dashboards.facts.seeds import SeedBand
from dashboards.figures import figures
from dashboards.figures.drawing import thinned, whole_numbers
from dashboards.style.theme import BLUE, MARKS, ORANGE, empty_figure, faint, message_figure

BAND_OPACITY = 0.22


@figures.add
def hypervolume(facts: Facts) -> go.Figure:
    """The dominated volume after each trial, as a share of its last value."""
    return volume_figure({"": facts.hypervolume} if facts.hypervolume else {})


def volume_figure(
    curves: Mapping[str, HypervolumeFacts], after: int | None = None, bands: Sequence[SeedBand] = ()
) -> go.Figure:
    """The curves of one study, or of several by name; all are shares of one volume. A line marks a trial.

    Of studies that differ in their seed only there are the median and the range in place of their curves.
    """
    if not curves and not bands:
        return message_figure("the hypervolume needs at least two complete trials")
    figure, named = empty_figure(300), len(curves) + len(bands) > 1 or bool(bands)
    for band, mark in zip(bands, MARKS, strict=False):
        add_band(figure, band, mark.colour)
    for (name, trace), mark in zip(curves.items(), MARKS[len(bands) :], strict=False):
        shown = thinned(len(trace.numbers))
        figure.add_scatter(
            name=escape(name),
            x=[trace.numbers[i] for i in shown],
            y=[100 * trace.shares[i] for i in shown],
            mode="lines",
            line={"color": mark.colour if named else BLUE, "width": 2, "shape": "hv"},
            hovertemplate="after trial %{x:,}: %{y:.1f} %<extra></extra>",
            showlegend=named,
        )
    last = max([*(c.numbers[-1] for c in curves.values()), *(band.numbers[-1] for band in bands)])
    figure.update_xaxes(title_text="trial", rangemode="tozero", **whole_numbers(last))
    figure.update_yaxes(title_text="hypervolume (% of final)", range=[0, 104])
    if after is not None:
        figure.add_vline(after, line={"color": ORANGE, "width": 1.4, "dash": "dot"})
    return figure.update_layout(margin_t=36 if named else 16)


def add_band(figure: go.Figure, band: SeedBand, colour: str) -> None:
    """From the lowest to the highest seed, and the median."""
    shown = thinned(len(band.numbers))
    numbers = [band.numbers[i] for i in shown]
    low, median, high = ([100 * values[i] for i in shown] for values in (band.low, band.median, band.high))
    for values, fill in ((low, None), (high, "tonexty")):
        figure.add_scatter(
            x=numbers,
            y=values,
            mode="lines",
            line={"width": 0, "shape": "hv"},
            fill=fill,
            fillcolor=faint(colour, BAND_OPACITY),
            hoverinfo="skip",
            showlegend=False,
            legendgroup=band.name,
        )
    figure.add_scatter(
        name=escape(band.name),
        legendgroup=band.name,
        x=numbers,
        y=median,
        customdata=list(zip(low, high, strict=True)),
        mode="lines",
        line={"color": colour, "width": 2, "shape": "hv"},
        hovertemplate="after trial %{x:,}: %{y:.1f} %, from %{customdata[0]:.1f} to %{customdata[1]:.1f} %"
        "<extra></extra>",
    )
