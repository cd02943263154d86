"""The table of networks: one column per objective, its numbers in one unit and with equally many decimals.

Each network has its layers below its row, and there, folded away, everything that is known of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dashboards.facts import NetworkFacts
from dashboards.facts.networks import parts_of
from dashboards.facts.quantities import Quantity
from dashboards.report.html import Html, code, joined, tag
from foundation.text import count, listed
from nas.study.trial import Value

VISIBLE_ROWS = 16
"""Further members of a front are folded away."""


@dataclass(frozen=True)
class Column:
    """One column: which quantity of a network it shows, in which unit, with how many decimals."""

    quantity: Quantity
    factor: float
    unit: str
    places: int

    @property
    def title(self) -> str:
        """The quantity and its unit."""
        return self.quantity.title(self.unit)

    def cell(self, network: NetworkFacts) -> Html | None:
        """The best known value, as measured where that was done, and its error in grey."""
        return number(network.best_known.get(self.quantity.name), self.factor, self.places)


def number(value: Value | None, factor: float, places: int) -> Html | None:
    """A number and its standard error with so many decimals, with its marks: `~` and `?`."""
    if value is None:
        return None
    error = f"± {value.error / factor:.{places}f}" if value.error is not None else None
    mark = tag("span", value.rough_mark, kind="rough", title=value.source) if value.rough else None
    text = f"{'~' if value.is_predicted else ''}{value.value / factor:,.{places}f}"
    return joined([text, tag("span", error, kind="err") if error else None, mark])


def columns(networks: Sequence[NetworkFacts], quantities: Iterable[Quantity]) -> list[Column]:
    """The columns that have something to show."""
    shown = []
    for of in dict.fromkeys(quantities):
        present = [each.best_known[of.name] for each in networks if of.name in each.best_known]
        if present:
            shown.append(column_of(of, present))
    return shown


def column_of(of: Quantity, present: Sequence[Value]) -> Column:
    """Unit and decimals for these values of a quantity; decimals follow the largest error."""
    sizes = sorted(abs(value.value) for value in present)
    factor, unit = of.scale([sizes[len(sizes) // 2]])
    errors = [value.error / factor for value in present if value.error]
    decimals = places([max(errors)], 2) if errors else places([value.value / factor for value in present])
    return Column(of, factor, unit, decimals)


def places(values: Iterable[float], digits: int = 3) -> int:
    """How many decimals show this many digits of a typical value."""
    sizes = sorted(abs(value) for value in values if value)
    if not sizes or all(float(value).is_integer() for value in sizes):
        return 0
    return min(6, max(0, digits - 1 - math.floor(math.log10(sizes[len(sizes) // 2]))))


def objectives_text(objectives: Iterable[Quantity]) -> str:
    """The labels of objectives, and the direction of those that are maximised."""
    return listed(
        quantity.label + (" (more is better)" if quantity.maximise else "") for quantity in objectives
    )


def layers(one_line: str) -> Html:
    """An architecture as a list of its layers, which wraps between them."""
    return tag("ul", *(tag("li", part) for part in parts_of(one_line)), kind="layers")


def member_table(
    networks: Sequence[NetworkFacts],
    objectives: Iterable[Quantity],
    tags: Callable[[NetworkFacts], Iterable[Html | None]],
    details: Callable[[NetworkFacts], Html | None] = lambda network: None,
) -> Html:
    """Networks with their objectives, their layers, their tags and their `details`; many are folded away."""
    shown = columns(networks, objectives)
    bodies = [_member(network, shown, tags(network), details(network)) for network in networks]
    parts = [_members(shown, bodies[:VISIBLE_ROWS])]
    if len(bodies) > VISIBLE_ROWS:
        more = tag("summary", f"the other {count(len(bodies) - VISIBLE_ROWS, 'network')}")
        parts.append(tag("details", more, _members(shown, bodies[VISIBLE_ROWS:])))
    return joined(parts)


def _members(shown: Sequence[Column], bodies: Sequence[Html]) -> Html:
    head = tag("tr", tag("th", "network"), *(tag("th", column.title) for column in shown))
    return tag("table", tag("thead", head), *bodies, kind="members")


def _member(
    network: NetworkFacts, shown: Sequence[Column], tags: Iterable[Html | None], details: Html | None
) -> Html:
    name = tag("td", code(network.digest), *tags)
    cells = (tag("td", column.cell(network), label=column.title) for column in shown)
    below = tag("td", layers(network.one_line), details, span=len(shown) + 1)
    return tag("tbody", tag("tr", name, *cells), tag("tr", below, kind="below"))
