"""A table of what modifiers made of a study's networks, beside what it was made of."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from dashboards.facts.modified import ABOUT, ModifiedFacts, ModifiedNetwork
from dashboards.facts.quantities import Quantity


def modified_table(found: ModifiedFacts | None, study: str) -> list[Component]:
    """A section of a page; none where nothing was modified."""
    if found is None:
        return []
    head = [html.Th("network"), *(html.Th(each.label, className="number") for each in found.quantities)]
    rows = [_row(network, found.quantities) for network in found.networks]
    table = html.Table([html.Thead(html.Tr(head)), html.Tbody(rows)])
    shown = html.Code(f"nas show {study} DIGEST"), html.Code(f"nas export {study} DIGEST -o FOLDER")
    return [
        html.Section(
            [
                html.H2("Modified afterwards"),
                html.P([ABOUT, " ", shown[0], " and ", shown[1], " take them."], className="muted"),
                *map(html.P, found.lines),
                html.Div(table, className="scroll"),
            ]
        )
    ]


def _row(network: ModifiedNetwork, quantities: tuple[Quantity, ...]) -> Component:
    cells = [
        html.Td(each.of(network.values[each.name]) if each.name in network.values else "", className="number")
        for each in quantities
    ]
    steps = [html.Div(step, className="muted") for step in network.steps]
    about = html.Div(network.done or f"{network.digest}, as trained")
    return html.Tr([html.Td([html.Code(network.digest), about, *steps]), *cells])
