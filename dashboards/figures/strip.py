"""A network as a drawing: its layers from the embedding up, and what each costs, as bars beside it.

Not in the registry of figures, which draw the facts of a study: this draws one network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.facts.anatomy import FAMILIES, Anatomy, BlockFacts, LayerFacts
from dashboards.facts.networks import quantity
from dashboards.figures.drawing import LEAST_WIDTH
from dashboards.style.theme import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    LIGHT,
    ORANGE,
    PURPLE,
    SKY,
    faint,
    template,
)

ROW = 30
COLUMN = 130
"""Pixels of a row, and of a column of bars at least."""

TALL_ROW, LOW_ROW, GAP = 42, 21, 44
"""On a phone: pixels of a row of the layers, of one of a cost, and between two panels."""

BAR, LETTER = 200, 6.6
"""Pixels at least of the blocks of a layer, and of a letter of its name."""

BARS = 1.32
"""Widths of the widest layer that `BAR` holds: itself, marks, and links in front of it."""

WIDEST_COLUMN = 3.6
"""How much wider the column of the layers is than one of costs."""

COLOURS = dict(zip(FAMILIES, (BLUE, SKY, GREEN, GREY, AMBER, ORANGE), strict=True))
BY_BITS = {16: BLUE, 8: SKY, 6: GREEN, 4: AMBER, 3: ORANGE, 2: PURPLE, 1.58: PURPLE}
"""Colours of bits per weight."""

BY_TOKEN = ", by token"
"""How the legend ends on weights whose precision is chosen token by token."""

TITLES = {
    "prefill_ms": "prefill (ms)",
    "decode_ms": "decode (ms)",
    "params": "parameters",
    "weight_bytes": "weights",
    "state_bytes": "state",
}
LAYERS = "layers, widths to scale"

AROUND = "ends"
"""The row of what stands around the layers."""


def strip_figure(facts: Anatomy, by: str = "family", *, narrow: bool = False) -> go.Figure:
    """Layers as rows, the first at the bottom: blocks with their widths to scale, then bars for each cost.

    `by` colours the blocks by their "family" or by the "bits" of their weights. A `narrow` one has the names
    above the blocks, and the costs two by two below all layers.
    """
    figure = (_phone_grid if narrow else _grid)(facts)
    figure.update_layout(template=template(LIGHT), bargap=0.25, barmode="overlay")
    figure.update_annotations(font_size=12)
    _add_blocks(figure, facts, by, narrow=narrow)
    _add_names(figure, facts, narrow=narrow)
    _add_links(figure, facts)
    for number, name in enumerate(facts.costs):
        place = (2 + number // 2, 1 + number % 2) if narrow else (1, 2 + number)
        _add_costs(figure, facts, name, place)
    rows = [AROUND, *(str(layer.index) for layer in facts.layers)]
    figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=rows, fixedrange=True, showgrid=False
    )
    return figure.update_xaxes(fixedrange=True, showgrid=False, showticklabels=False)


def _grid(facts: Anatomy) -> go.Figure:
    """The layers, and to the right of them a column for each cost."""
    costs = facts.costs
    figure = make_subplots(
        1,
        1 + len(costs),
        shared_yaxes=True,
        column_widths=[WIDEST_COLUMN, *[1.0] * len(costs)],
        horizontal_spacing=0.012,
        column_titles=[LAYERS, *(TITLES[name] for name in costs)],
    )
    widest = max(430 + COLUMN * len(costs), _room(facts) * (1 + 1.04 * len(costs) / WIDEST_COLUMN))
    return figure.update_layout(
        height=ROW * (len(facts.layers) + 1) + 90,
        meta={LEAST_WIDTH: widest},
        margin={"l": 44, "r": 8, "t": 64, "b": 8},
        legend={"y": 1, "yref": "container", "yanchor": "top"},
    )


def _phone_grid(facts: Anatomy) -> go.Figure:
    """The layers, and below them the costs, two beside each other."""
    pairs, rows = -(-len(facts.costs) // 2), len(facts.layers) + 1
    heights = [TALL_ROW * rows, *[LOW_ROW * rows] * pairs]
    height = sum(heights) + GAP * pairs
    figure = make_subplots(
        1 + pairs,
        2,
        specs=[[{"colspan": 2}, None], *[[{}, {}]] * pairs],
        row_heights=heights,
        shared_yaxes=True,
        horizontal_spacing=0.04,
        vertical_spacing=GAP / height if pairs else 0.0,
        subplot_titles=[LAYERS, *(TITLES[name] for name in facts.costs)],
    )
    return figure.update_layout(
        height=height + 48, meta={LEAST_WIDTH: 0}, margin={"l": 34, "r": 4, "t": 40, "b": 8}
    )


def _add_blocks(figure: go.Figure, facts: Anatomy, by: str, *, narrow: bool) -> None:
    """Both blocks of each layer end to end; one trace for each colour, so that the legend names it."""
    place = {"width": 0.42, "offset": -0.45} if narrow else {}
    bars: dict[str, list[tuple[str, float, float, str]]] = {}
    for layer in facts.layers:
        start = 0.0
        for block in layer.blocks:
            name = block.family if by == "family" else _named_bits(block)
            about = _about(layer, block)
            bars.setdefault(name, []).append((str(layer.index), start, block.width, about))
            start += block.width
    order = FAMILIES if by == "family" else sorted(bars, key=lambda name: -float(name.split("-")[0]))
    for name in (each for each in order if each in bars):
        rows = bars[name]
        colour = COLOURS.get(name) or BY_BITS.get(float(name.split("-")[0]), GREY)
        solid = 0.5 if name.endswith(BY_TOKEN) else 0.85
        figure.add_bar(
            name=name,
            y=[row for row, *_ in rows],
            base=[start for _, start, *_ in rows],
            x=[width for _, _, width, *_ in rows],
            orientation="h",
            marker={"color": faint(colour, solid), "line": {"color": faint(GREY, 0.9), "width": 0.6}},
            customdata=[about for *_, about in rows],
            hovertemplate="%{customdata}<extra></extra>",
            **place,
            row=1,
            col=1,
        )


def _add_names(figure: go.Figure, facts: Anatomy, *, narrow: bool) -> None:
    """What each layer is, behind its bar or above it: kinds of blocks, and bits where they are few."""
    widest = max((_width(layer) for layer in facts.layers), default=1.0)
    marks = 0.09 * widest if any(layer.router or layer.exit for layer in facts.layers) else 0.0
    figure.add_scatter(
        x=[0.0 if narrow else _width(layer) + 0.02 * widest + marks for layer in facts.layers],
        y=[str(layer.index) for layer in facts.layers],
        text=[_shown(layer) for layer in facts.layers],
        mode="text",
        textposition="top right" if narrow else "middle right",
        textfont={"size": 11},
        hoverinfo="skip",
        showlegend=False,
        row=1,
        col=1,
    )
    right = 1.16 if narrow else BARS * _room(facts) / BAR - 0.16
    figure.update_xaxes(range=[-0.16 * widest, right * widest], row=1, col=1)


def _room(facts: Anatomy) -> float:
    """Pixels that the blocks and the longest name behind them need side by side."""
    return BAR + LETTER * max((len(_shown(layer)) for layer in facts.layers), default=0)


def _width(layer: LayerFacts) -> float:
    return sum(block.width for block in layer.blocks)


def _shown(layer: LayerFacts) -> str:
    bits = [_bits(block) for block in layer.blocks]
    if len(set(bits)) == 1:
        return escape(" + ".join(block.kind for block in layer.blocks)) + bits[0]
    return " + ".join(escape(block.kind) + own for block, own in zip(layer.blocks, bits, strict=True))


def _named_bits(block: BlockFacts) -> str:
    """What the legend calls the bits of a block's weights; the number that its colour stands for is first."""
    if block.low_bits is None:
        return f"{block.weight_bits:g}-bit weights"
    return f"{block.weight_bits:g}- or {block.low_bits}-bit weights{BY_TOKEN}"


def _bits(block: BlockFacts) -> str:
    low = "" if block.low_bits is None else f"/{block.low_bits}"
    weight = f" w{block.weight_bits:g}{low}" if block.weight_bits < 16 else ""
    state = f" s{block.state_bits:g}" if block.state_bits < 16 else ""
    return weight + state


def _about(layer: LayerFacts, block: BlockFacts) -> str:
    lines = [
        f"<b>layer {layer.index}, {block.place.replace('_', ' ')}</b>",
        escape(block.text),
        f"{block.params:,} parameters, {block.width:,.1f} per channel",
        f"weights {block.weight_bits:g}{'' if block.low_bits is None else f' or {block.low_bits}'} bits,"
        f" activations {block.activation_bits:g},"
        f" state {block.state_bits:g}",
    ]
    if layer.shared:
        lines.append(f"weights shared as {escape(layer.shared)}")
    lines += [escape(text) for text in (layer.router, layer.exit, *layer.notes) if text]
    return "<br>".join(lines)


def _add_links(figure: go.Figure, facts: Anatomy) -> None:
    """Shared weights as brackets between the layers that have them; routers and exits as marks at the end."""
    shared: dict[str, list[int]] = {}
    widest = max((_width(layer) for layer in facts.layers), default=1.0)
    for layer in facts.layers:
        if layer.shared:
            shared.setdefault(layer.shared, []).append(layer.index)
    for number, (name, places) in enumerate(shared.items()):
        x = -widest * (0.05 + 0.05 * number)
        figure.add_scatter(
            x=[x] * len(places),
            y=[str(place) for place in places],
            mode="lines+markers",
            line={"color": PURPLE, "width": 2},
            marker={"color": PURPLE, "size": 7},
            text=[f"layers {', '.join(map(str, places))} share their weights as {escape(name)}"]
            * len(places),
            hovertemplate="%{text}<extra></extra>",
            name="shared weights",
            showlegend=number == 0,
            row=1,
            col=1,
        )
    marks: Sequence[tuple[str, str, str]] = (("router", "diamond", ORANGE), ("exit", "triangle-right", GREEN))
    for word, symbol, colour in marks:
        some = [layer for layer in facts.layers if getattr(layer, word)]
        if some:
            figure.add_scatter(
                x=[_width(layer) + (0.04 + 0.05 * (word == "exit")) * widest for layer in some],
                y=[str(layer.index) for layer in some],
                mode="markers",
                marker={"symbol": symbol, "size": 11, "color": colour},
                text=[escape(getattr(layer, word)) for layer in some],
                hovertemplate="%{text}<extra></extra>",
                name=word,
                row=1,
                col=1,
            )


def _add_costs(figure: go.Figure, facts: Anatomy, name: str, place: tuple[int, int]) -> None:
    row, column = place
    known = {str(layer.index): layer.costs.get(name, 0.0) for layer in facts.layers}
    if name in facts.around:
        known = {AROUND: facts.around[name], **known}
    of = quantity(name)
    texts = [of.text(value) if value else "0" for value in known.values()]
    largest = max(known.values(), default=0.0) or 1.0
    figure.add_bar(
        x=list(known.values()),
        y=list(known),
        orientation="h",
        marker={"color": faint(GREY, 0.75)},
        text=texts,
        textposition="outside",
        textfont={"size": 11},
        cliponaxis=False,
        hovertemplate=f"{TITLES[name]}: %{{text}}<extra></extra>",
        showlegend=False,
        row=row,
        col=column,
    )
    figure.update_xaxes(range=[0, 1.75 * largest], row=row, col=column)


def totals(facts: Anatomy) -> Mapping[str, float]:
    """What all rows add up to, with what belongs to none."""
    sums: dict[str, Any] = {}
    for name in facts.costs:
        sums[name] = sum(layer.costs.get(name, 0.0) for layer in facts.layers)
        sums[name] += facts.around.get(name, 0.0) + facts.overheads.get(name, 0.0)
    return sums
