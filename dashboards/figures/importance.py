"""The importance of genes for every objective, with standard errors.

Not in the registry of figures, which draw the facts of a study: a report does not fit models.
"""

from __future__ import annotations

from html import escape

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.facts.importance import ImportanceFacts
from dashboards.figures.drawing import LEAST_WIDTH
from dashboards.style.theme import BLUE, GREY, LIGHT, template

ROW = 26
MOST = 14
"""Genes that are drawn; the others are in the table."""

LETTER = 6.2
COLUMN = 190
LONGEST = 36


def importance_figure(facts: ImportanceFacts) -> go.Figure:
    """One panel for each objective, one row for each gene; grey where it is within two errors of nothing."""
    genes = facts.genes[:MOST]
    titles = [
        f"{of.label}<br>{max(0.0, share):.0%} of its variance predicted"
        for of, share in zip(facts.objectives, facts.explained, strict=True)
    ]
    columns = len(facts.objectives)
    figure = make_subplots(1, columns, shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.04)
    figure.update_layout(
        template=template(LIGHT), height=ROW * len(genes) + 130, showlegend=False, bargap=0.35
    )
    figure.update_annotations(font_size=12)
    names = [shown(gene.name) for gene in genes]
    for column in range(columns):
        means, errors = [g.means[column] for g in genes], [g.errors[column] for g in genes]
        clear = [mean > 2 * error for mean, error in zip(means, errors, strict=True)]
        figure.add_bar(
            x=means,
            y=names,
            orientation="h",
            marker_color=[BLUE if each else GREY for each in clear],
            error_x={"type": "data", "array": errors, "width": 0, "thickness": 1.3, "color": GREY},
            hovertemplate="%{y}: %{x:.3f} ± %{error_x.array:.3f}<extra></extra>",
            row=1,
            col=column + 1,
        )
    figure.update_yaxes(autorange="reversed", fixedrange=True, showgrid=False, tickfont_size=11)
    figure.update_xaxes(
        rangemode="tozero",
        fixedrange=True,
        nticks=4,
        title_text="added error (variances)",
        title_font_size=12,
    )
    left = int(16 + LETTER * max(map(len, names), default=0))
    return figure.update_layout(
        meta={LEAST_WIDTH: left + COLUMN * columns}, margin={"l": left, "r": 12, "t": 62, "b": 52}
    )


def shown(name: str) -> str:
    """A gene of all layers: its path without what all have in common."""
    plain = name.replace("layers.*.", "")
    return escape(plain if len(plain) <= LONGEST else f"{plain[: LONGEST // 2]}…{plain[-LONGEST // 2 :]}")
