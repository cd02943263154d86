"""Tables of networks: one column per quantity, all its numbers in one unit and with equally many decimals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dashboards.facts import NetworkFacts
from dashboards.facts.networks import quantity
from dashboards.facts.quantities import Quantity
from dashboards.report.html import Html, code, joined, table, tag
from foundation.text import count, listed
from nas.study.trial import Value

STANDARD_QUANTITIES = ("bits_per_byte", "prefill_ms", "decode_ms", "weight_bytes", "state_bytes", "params")
MEASURABLE = ("prefill_ms", "decode_ms")
"""Quantities that are predicted and may also have been measured."""

VISIBLE_ROWS = 16
"""Further members of a front are folded away."""


@dataclass(frozen=True)
class Column:
    """One column: which value of a network it shows, in which unit, with how many decimals."""

    quantity: Quantity
    heading: str
    pick: Callable[[NetworkFacts], Value | None]
    factor: float
    unit: str
    places: int

    def cell(self, network: NetworkFacts) -> Html | None:
        """The number, and its error in grey."""
        return number(self.pick(network), self.factor, self.places)


def number(value: Value | None, factor: float, places: int) -> Html | None:
    """A number and its standard error with so many decimals, and its mark where it is rough."""
    if value is None:
        return None
    error = f"± {value.error / factor:.{places}f}" if value.error is not None else None
    mark = tag("span", value.rough_mark, kind="rough", title=value.source) if value.rough else None
    return joined(
        [f"{value.value / factor:,.{places}f}", tag("span", error, kind="err") if error else None, mark]
    )


def columns(networks: Sequence[NetworkFacts], objectives: Iterable[str]) -> list[Column]:
    """The columns that have something to show."""
    shown = []
    for name in dict.fromkeys([*objectives, *STANDARD_QUANTITIES]):
        column_quantity = quantity(name)
        if name.partition("@")[0] in MEASURABLE:
            shown.append(_column(networks, column_quantity, "predicted", _predicted(name)))
            shown.append(_column(networks, column_quantity, "measured", _measured(name)))
        else:
            shown.append(_column(networks, column_quantity, "", _predicted(name)))
    return [column for column in shown if column is not None]


def _predicted(name: str) -> Callable[[NetworkFacts], Value | None]:
    return lambda network: network.values.get(name)


def _measured(name: str) -> Callable[[NetworkFacts], Value | None]:
    return lambda network: network.measured.get(name)


def _column(
    networks: Sequence[NetworkFacts],
    of: Quantity,
    heading: str,
    pick: Callable[[NetworkFacts], Value | None],
) -> Column | None:
    present = [value for value in map(pick, networks) if value is not None]
    if not present:
        return None
    sizes = sorted(abs(value.value) for value in present)
    factor, unit = of.scale([sizes[len(sizes) // 2]])
    errors = [value.error / factor for value in present if value.error]
    decimals = places([max(errors)], 2) if errors else places([value.value / factor for value in present])
    return Column(of, heading, pick, factor, unit, decimals)


def places(values: Iterable[float], digits: int = 3) -> int:
    """How many decimals show this many digits of a typical value."""
    sizes = sorted(abs(value) for value in values if value)
    if not sizes or all(float(value).is_integer() for value in sizes):
        return 0
    return min(6, max(0, digits - 1 - math.floor(math.log10(sizes[len(sizes) // 2]))))


def headings(shown: Sequence[Column]) -> Html:
    """Two rows: the quantity above its predicted and its measured value."""
    upper, lower = [tag("th")], [tag("th", "network")]
    done = set()
    for column in shown:
        same = [c for c in shown if c.quantity == column.quantity]
        if not column.heading:
            upper.append(tag("th"))
            lower.append(tag("th", column.quantity.title(column.unit)))
            continue
        if column.quantity.name not in done:
            upper.append(tag("th", column.quantity.title(column.unit), kind="group", span=len(same)))
            done.add(column.quantity.name)
        lower.append(tag("th", column.heading))
    return joined([tag("tr", *upper), tag("tr", *lower)])


def objectives_text(objectives: Iterable[Quantity]) -> str:
    """The labels of objectives, and the direction of those that are maximised."""
    return listed(
        quantity.label + (" (more is better)" if quantity.maximise else "") for quantity in objectives
    )


def member_table(
    networks: Sequence[NetworkFacts],
    objectives: Iterable[str],
    tags: Callable[[NetworkFacts], Iterable[Html | None]],
) -> Html:
    """Members of a front, each with its layers in one line and its tags; the rest is folded away."""
    shown = columns(networks, objectives)
    rows = [_member(network, shown, tags(network)) for network in networks]
    parts = [table(headings(shown), rows[:VISIBLE_ROWS], "members")]
    if len(rows) > VISIBLE_ROWS:
        more = tag("summary", f"the other {count(len(rows) - VISIBLE_ROWS, 'member')} of the front")
        parts.append(tag("details", more, table(headings(shown), rows[VISIBLE_ROWS:], "members")))
    return joined(parts)


def _member(network: NetworkFacts, shown: Sequence[Column], tags: Iterable[Html | None]) -> Html:
    name = tag("td", code(network.digest), title=network.layers)
    cells = tag("tr", name, *(tag("td", column.cell(network)) for column in shown))
    line = tag("td", network.one_line, *tags, span=len(shown) + 1)
    return joined([cells, Html(f'<tr class="one_line">{line}</tr>')])
