"""The table behind a figure: what it shows, to be read without seeing it."""

from __future__ import annotations

import plotly.graph_objects as go
from dash import html
from dash.development.base_component import Component

from dashboards.figures.as_table import PanelTable, panel_tables


def folded(*tables: Component) -> Component:
    """Tables that a reader unfolds under a figure."""
    return html.Details([html.Summary("The same as a table"), *tables], className="behind")


def behind(figure: go.Figure) -> Component:
    """The numbers that a figure is drawn from."""
    return folded(*(part for table in panel_tables(figure) for part in _table(table)))


def _table(table: PanelTable) -> list[Component]:
    head = html.Tr([html.Th(text) for text in table.head])
    rows = [html.Tr([html.Th(first, scope="row"), *map(html.Td, rest)]) for first, *rest in table.rows]
    listed = html.Table([html.Thead(head), html.Tbody(rows)], className="sides")
    parts: list[Component] = [html.H3(table.title)] if table.title else []
    if table.of > len(table.rows):
        parts.append(html.P(f"{len(table.rows):,} of {table.of:,}, evenly spaced.", className="caption"))
    return [*parts, html.Div(listed, className="scroll long", tabIndex="0")]
