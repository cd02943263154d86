"""All numbers of one network in one table: quantities, as predicted and as measured, scenario by scenario."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dashboards.facts.numbers import NumberGroup, NumberRow, Numbers, number_groups
from dashboards.facts.quantities import Quantity
from dashboards.report.html import Html, joined, tag
from dashboards.report.tables import column_of, number
from nas.study.trial import Value

NONE = "\N{EN DASH}"
"""In place of a number that is not known."""


def numbers_table(
    values: Numbers,
    measured: Numbers,
    *,
    objectives: Sequence[Quantity],
    scenarios: Mapping[str, str],
    trained: Mapping[int, Value] | None = None,
) -> Html:
    """The numbers of a network; see `number_groups`. One that is `known` has both columns."""
    groups = number_groups(values, measured, objectives=objectives, scenarios=scenarios, trained=trained)
    head = tag("tr", *(tag("th", title) for title in ("quantity", "predicted", "measured")))
    return tag("div", tag("table", tag("thead", head), *map(_body, groups), kind="numbers"), kind="scroll")


def _body(group: NumberGroup) -> Html:
    """The rows of a scenario under its name."""
    name = tag("span", group.scenario)
    title = Html(f'<tr><th colspan="3" class="group">{name}</th></tr>') if group.scenario else None
    return tag("tbody", title, *map(_row, group.rows))


def _row(row: NumberRow) -> Html:
    column = column_of(row.of, row.values)
    title = row.of.plain.title(column.unit)
    if row.steps is not None:
        title = f"{column.title}, trained from scratch for {row.steps:,} steps"
    if row.known is not None:
        return _single(title, number(row.known, column.factor, column.places), row.known.source)
    cells = (number(each, column.factor, column.places) for each in (row.predicted, row.measured))
    return tag("tr", tag("td", title), *(tag("td", cell or NONE) for cell in cells))


def _single(title: str, shown: Html | None, source: str) -> Html:
    """A number that has no second one beside it, after the word for its source."""
    return tag("tr", tag("td", title), tag("td", joined([tag("span", source, kind="how"), shown]), span=2))
