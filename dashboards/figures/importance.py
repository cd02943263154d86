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

ROW, TALL_ROW = 26, 32
"""Pixels of a row, and of one whose names have two lines."""

MOST = 14
"""Genes that are drawn; the others are in the table."""

AROUND = 130
"""Pixels of what stands above and below the rows."""

LETTER = 6.2
COLUMN = 190
LONGEST = 40
"""Letters of a line of a gene's name; a longer one goes on in a second line."""


PHONE_LONGEST = 24
"""On a phone."""


def importance_figure(facts: ImportanceFacts, *, narrow: bool = False) -> go.Figure:
    """One panel for each objective, one row for each gene; grey where it is within two errors of nothing.

    In a `narrow` one the panels stand below each other.
    """
    genes = facts.genes[:MOST]
    titles = [
        f"{of.label}<br>{max(0.0, share):.0%} of its variance predicted"
        for of, share in zip(facts.objectives, facts.explained, strict=True)
    ]
    panels = len(facts.objectives)
    names = [shown(gene.name, PHONE_LONGEST if narrow else LONGEST) for gene in genes]
    row = TALL_ROW if any("<br>" in name for name in names) else ROW
    rows, columns = (panels, 1) if narrow else (1, panels)
    height = (row * len(genes) + AROUND) * rows
    figure = make_subplots(
        rows,
        columns,
        shared_yaxes=not narrow,
        subplot_titles=titles,
        horizontal_spacing=0.04,
        vertical_spacing=AROUND / height,
    )
    figure.update_layout(template=template(LIGHT), height=height, showlegend=False, bargap=0.35)
    figure.update_annotations(font_size=12)
    for column in range(panels):
        means, errors = [g.means[column] for g in genes], [g.errors[column] for g in genes]
        clear = [mean > 2 * error for mean, error in zip(means, errors, strict=True)]
        figure.add_bar(
            x=means,
            y=names,
            orientation="h",
            marker_color=[BLUE if each else GREY for each in clear],
            error_x={"type": "data", "array": errors, "width": 0, "thickness": 1.3, "color": GREY},
            hovertemplate="%{y}: %{x:.3f} ± %{error_x.array:.3f}<extra></extra>",
            row=column + 1 if narrow else 1,
            col=1 if narrow else column + 1,
        )
    figure.update_yaxes(autorange="reversed", fixedrange=True, showgrid=False, tickfont_size=11)
    figure.update_xaxes(
        rangemode="tozero",
        fixedrange=True,
        nticks=4,
        title_text="added error (variances)",
        title_font_size=12,
    )
    longest = max((len(line) for name in names for line in name.split("<br>")), default=0)
    left = int(16 + LETTER * longest)
    return figure.update_layout(
        meta={LEAST_WIDTH: 0 if narrow else left + COLUMN * columns},
        margin={"l": left, "r": 12, "t": 62, "b": 52},
    )


def shown(name: str, longest: int = LONGEST) -> str:
    """A gene of all layers: its path without what all have in common, in two lines where it is long."""
    plain = name.replace("layers.*.", "")
    lines = [plain] if len(plain) <= longest else [part for part in plain.partition(":") if part]
    if len(lines) == 3:
        lines = [lines[0] + lines[1], lines[2]]
    half = longest // 2
    return "<br>".join(
        escape(line if len(line) <= longest else f"{line[:half]}…{line[-half:]}") for line in lines
    )
