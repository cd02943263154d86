"""The share of each family of blocks by layer, of the front beside that of all networks.

Not in the registry of figures, which draw the facts of a study: it needs the architectures themselves.
"""

from __future__ import annotations

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.facts.families import FamilyFacts
from dashboards.figures.drawing import LEAST_WIDTH, whole_numbers
from dashboards.figures.strip import COLOURS
from dashboards.style.theme import LIGHT, faint, template

ROW = 210


def families_figure(facts: FamilyFacts, *, narrow: bool = False) -> go.Figure:
    """Bars from the first layer on the left, on the left of the front, on the right of all."""
    rows = len(facts.panels)
    everywhere = "all" if narrow else "all over the search"
    titles = [f"{panel.title}, {where}" for panel in facts.panels for where in ("front", everywhere)]
    figure = make_subplots(
        rows,
        2,
        subplot_titles=titles,
        shared_yaxes=True,
        horizontal_spacing=0.05,
        vertical_spacing=0.26 / rows,
    )
    height = ROW * rows + 110
    figure.update_layout(template=template(LIGHT), height=height, barmode="stack", bargap=0.12)
    figure.update_annotations(font_size=11 if narrow else 13)
    named = set[str]()
    for row, panel in enumerate(facts.panels, start=1):
        for column, shares in enumerate((panel.front, panel.everywhere), start=1):
            for family, by_layer in zip(panel.families, shares, strict=True):
                figure.add_bar(
                    name=family,
                    x=list(range(facts.depth)),
                    y=by_layer,
                    marker={"color": faint(COLOURS[family], 0.85)},
                    legendgroup=family,
                    showlegend=family not in named,
                    hovertemplate=f"layer %{{x}}: %{{y:.0%}} {family}<extra></extra>",
                    row=row,
                    col=column,
                )
                named.add(family)
    figure.update_xaxes(**whole_numbers(facts.depth), fixedrange=True, showgrid=False)
    figure.update_xaxes(title_text="layer", row=rows)
    figure.update_yaxes(range=[0, 1], tickformat=".0%", nticks=3, fixedrange=True)
    return figure.update_layout(
        meta={LEAST_WIDTH: 0 if narrow else 560},
        margin={"l": 48, "r": 8, "t": 76, "b": 48},
        legend={"y": 1, "yref": "container", "yanchor": "top"},
    )
