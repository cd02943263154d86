"""The report's part about modifiers: what became of the networks that were trained longest."""

from __future__ import annotations

from dashboards.facts import Facts
from dashboards.facts.modified import ABOUT, ModifiedNetwork
from dashboards.facts.quantities import Quantity
from dashboards.report.html import Html, code, joined, p, section, tag
from dashboards.report.tables import layers


def modified_section(facts: Facts) -> Html | None:
    """The front of what was modified and what it was made of; None where nothing was."""
    found = facts.modified
    if found is None:
        return None
    said = [p(line) for line in found.lines]
    titles = [quantity.label for quantity in found.quantities]
    head = tag("tr", tag("th", "network"), *(tag("th", title) for title in titles))
    bodies = [_body(network, found.quantities) for network in found.networks]
    table = tag("table", tag("thead", head), *bodies, kind="members")
    return section("Modified afterwards", p(ABOUT, kind="muted"), *said, table)


def _body(network: ModifiedNetwork, quantities: tuple[Quantity, ...]) -> Html:
    cells = [
        tag(
            "td",
            each.of(network.values[each.name]) if each.name in network.values else None,
            label=each.label,
        )
        for each in quantities
    ]
    name = tag("td", code(network.digest), " ", network.done or "as trained")
    below = tag(
        "td",
        joined([*(p(step, kind="muted") for step in network.steps), layers(network.one_line)]),
        span=len(quantities) + 1,
    )
    return tag("tbody", tag("tr", name, *cells), tag("tr", below, kind="below"))
