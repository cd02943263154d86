"""Parts of pages that show networks: one in short, its numbers in a table, many in a list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from dashboards.app.controls import label_of, term
from dashboards.facts.networks import parts_of
from dashboards.facts.numbers import NumberGroup, NumberRow, number_groups
from dashboards.facts.quantities import Quantity
from dashboards.facts.reading import Reading
from dashboards.pages.base import MOST_COMPARED, address
from dashboards.report.tables import column_of
from foundation.text import significant, with_error
from nas.study.marks import rough_lines
from nas.study.trial import Trial, Value

NONE = "\N{EN DASH}"
MOST_PLACES = 6
MOST_ROWS = 60
"""Networks in a list; the address of each further one is known from its point."""


def link_to(reading: Reading, digest: str, shown: str | None = None) -> Component:
    """A link to the page of a network."""
    return dcc.Link(shown or digest, href=address("network", reading.study.name, digest), className="mono")


def network_panel(reading: Reading, trial: Trial, lead: str = "") -> list[Component]:
    """One network in short: its layers and its numbers, and where there is more."""
    head = [html.Code(trial.digest), html.Span(f" trial {trial.number:,}", className="muted")]
    return [
        *([html.P(lead, className="muted")] if lead else []),
        html.H2(head),
        layer_list(reading.one_line(trial)),
        numbers_table(reading, trial),
        html.P(
            [
                link_to(reading, trial.digest, "Layer by layer, and take it home"),
                compare_link(reading, [trial], "Compare it"),
            ],
            className="more",
        ),
    ]


def compare_link(reading: Reading, trials: Sequence[Trial], shown: str) -> Component:
    """A link that shows networks side by side; one alone stands beside the first of the front."""
    digests = [trial.digest for trial in trials[:MOST_COMPARED]]
    if len(digests) == 1:
        digests += [member.digest for member in reading.members if member.digest != digests[0]][:1]
    asked: dict[str, Any] = {"with": digests}
    return dcc.Link(shown, href=address("compare", reading.study.name, **asked))


def layer_list(one_line: str) -> Component:
    """An architecture as a list of its layers."""
    return html.Ul([html.Li(part) for part in parts_of(one_line)], className="layers")


def groups_of(reading: Reading, trial: Trial) -> tuple[NumberGroup, ...]:
    """All numbers that are known of a network."""
    study = reading.study
    scenarios = study.plan.scenarios
    return number_groups(
        trial.values,
        reading.measured.get(trial.digest, {}),
        objectives=reading.objectives,
        scenarios={s.name: str(s) for s in scenarios} if len(scenarios) > 1 else {},
        trained=reading.finalists.get(trial.digest),
    )


def numbers_table(reading: Reading, trial: Trial) -> Component:
    """Quantity by quantity what was predicted and measured of a network, in every scenario, with errors."""
    head = html.Thead(html.Tr([html.Th(name) for name in ("", term("predicted"), term("measured"))]))
    bodies = [_body(reading, group) for group in groups_of(reading, trial)]
    table = html.Table([head, *bodies], className="numbers")
    return html.Div(
        [table, *(html.P(line, className="muted") for line in legend(reading, trial))], className="scroll"
    )


def legend(reading: Reading, trial: Trial) -> list[str]:
    """What the marks of its numbers mean."""
    measured = reading.measured.get(trial.digest, {})
    known = [{name: value} for values in (trial.values, measured) for name, value in values.items()]
    return rough_lines(known, reading.study.table_errors)


def _body(reading: Reading, group: NumberGroup) -> Component:
    title = [html.Tr(html.Th(group.scenario, colSpan=3, className="group"))] if group.scenario else []
    return html.Tbody([*title, *(_row(reading, row) for row in group.rows)])


def _row(reading: Reading, row: NumberRow) -> Component:
    column = column_of(row.of, row.values)
    unit = f" ({column.unit})" if column.unit else ""
    name: list[Component | str] = [label_of(row.of.plain, reading.study), unit]
    if row.steps is not None:
        name.append(f", trained for {row.steps:,} steps")
    if row.known is not None:
        how = html.Span(row.known.source, className="how")
        return html.Tr(
            [html.Td(name), html.Td([how, *number_parts(row.known, column.factor, column.places)], colSpan=2)]
        )
    cells = (number_parts(each, column.factor, column.places) for each in (row.predicted, row.measured))
    return html.Tr([html.Td(name), *(html.Td(cell) for cell in cells)])


def number_parts(value: Value | None, factor: float, places: int) -> list[Component | str]:
    """A number with its error and its marks: `~` predicted, `?` rough."""
    if value is None:
        return [NONE]
    while value.error and not round(value.error / factor, places) and places < MOST_PLACES:
        places += 1  # an error that is there is not shown as none
    parts: list[Component | str] = [f"{'~' if value.is_predicted else ''}{value.value / factor:,.{places}f}"]
    if value.error is not None:
        parts.append(html.Span(f"± {value.error / factor:.{places}f}", className="err"))
    if value.rough:
        parts.append(html.Span(value.rough_mark, className="rough", title=value.source))
    return parts


def network_rows(
    reading: Reading, trials: Sequence[Trial], quantities: Iterable[Quantity], note: str
) -> list[Component]:
    """Networks as a table, each a link to its page: what the figure shows, to be read and reached by keys."""
    measured = reading.measured
    known = {trial.digest: {**trial.values, **measured.get(trial.digest, {})} for trial in trials}
    shown = [
        (of, column_of(of, [values[of.name] for values in known.values() if of.name in values]))
        for of in dict.fromkeys(quantities)
        if any(of.name in values for values in known.values())
    ]
    head = html.Tr([html.Th("network"), *(html.Th(column.title) for _, column in shown), html.Th("layers")])
    rows = [
        html.Tr(
            [
                html.Td(link_to(reading, trial.digest)),
                *(
                    _labelled(number_parts(known[trial.digest].get(of.name), c.factor, c.places), c.title)
                    for of, c in shown
                ),
                html.Td(reading.one_line(trial), className="line", title=reading.one_line(trial)),
            ]
        )
        for trial in trials[:MOST_ROWS]
    ]
    more = f" The first {MOST_ROWS} of {len(trials):,} are listed." if len(trials) > MOST_ROWS else ""
    table = html.Table([html.Thead(head), html.Tbody(rows)], className="listed")
    return [html.P(note + more, className="muted"), html.Div(table, className="scroll long", tabIndex="0")]


def _labelled(parts: list[Component | str], title: str) -> Component:
    """A cell that says of which column it is where its row is shown as a list."""
    named: Any = {"data-label": title}
    return html.Td(parts, **named)


def said(of: Quantity, value: Value) -> str:
    """A number in a sentence, with its unit and its marks."""
    factor, unit = of.scale([value.value])
    scaled = value.value / factor
    text = significant(scaled, 3) if value.error is None else with_error(scaled, value.error / factor)
    return f"{value.marked(text)} {unit or of.label}".rstrip()
