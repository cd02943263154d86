"""Tables of networks side by side: what differs from the first one is marked."""

from __future__ import annotations

from collections.abc import Sequence

from dash import html
from dash.development.base_component import Component

from dashboards.app.controls import label_of
from dashboards.app.panels import link_to, number_parts
from dashboards.facts.dependence import DependenceFacts
from dashboards.facts.importance import ImportanceFacts
from dashboards.facts.reading import Reading
from dashboards.facts.side_by_side import ComparedNumber, ComparedText, SideBySide
from dashboards.report.tables import column_of
from foundation.text import percent, with_error
from nas.study.marks import rough_lines


def numbers_side_by_side(reading: Reading, facts: SideBySide) -> list[Component]:
    """Every number of every network, with its difference from the first."""
    rows = [_number_row(reading, number) for number in facts.numbers]
    known = [
        {row.of.name: value for row in facts.numbers if (value := row.values[i]) is not None}
        for i in range(len(facts.digests))
    ]
    told = (
        "In grey, by how much each differs from the first; bold is better than all others by more than two"
        " standard errors of the difference. Measured where that was done."
    )
    marks = rough_lines(known, reading.study.table_errors)
    return [
        _table(reading, facts, rows),
        html.P(told, className="caption"),
        *(html.P(line, className="caption") for line in marks),
    ]


def _number_row(reading: Reading, number: ComparedNumber) -> Component:
    known = [value for value in number.values if value is not None]
    column = column_of(number.of, known)
    unit = f" ({column.unit})" if column.unit else ""
    cells = []
    for i, (value, relative) in enumerate(zip(number.values, number.relative, strict=True)):
        parts = number_parts(value, column.factor, column.places)
        if i and relative is not None:
            parts.append(html.Span(_signed(relative), className="apart"))
        cells.append(html.Td(html.Strong(parts) if i == number.best else parts))
    return html.Tr([html.Th([label_of(number.of, reading.study), unit], scope="row"), *cells])


def _signed(relative: float) -> str:
    """A difference as a share, with its sign; beyond a doubling as a factor."""
    if abs(relative) < 0.0005:
        return "="
    if relative >= 1:
        return f"\N{MULTIPLICATION SIGN} {1 + relative:.3g}"
    sign = "+" if relative > 0 else "\N{MINUS SIGN}"
    return f"{sign}{percent(abs(relative))}"


def texts_table(reading: Reading, facts: SideBySide) -> list[Component]:
    """The width and the layers, the first layer on top."""
    if not facts.layers:
        text = "These are no plain stacks of layers; the genes below say what differs."
        return [html.P(text, className="muted")]
    told = "The first layer is on top; what is not as in the first network is marked."
    return [
        _table(reading, facts, _text_rows(facts.layers), "sides words"),
        html.P(told, className="caption"),
    ]


def gene_table(facts: SideBySide) -> Component:
    """The genes that are not the same everywhere."""
    head = html.Tr([html.Th("gene"), *(html.Th(digest, className="mono") for digest in facts.digests)])
    table = html.Table([html.Thead(head), html.Tbody(_text_rows(facts.genes))], className="sides words")
    return html.Div(table, className="scroll long", tabIndex="0")


def importance_table(facts: ImportanceFacts) -> Component:
    """The importance of every gene with its standard error."""
    head = html.Tr([html.Th("gene"), *(html.Th(of.label) for of in facts.objectives)])
    rows = [
        html.Tr(
            [
                html.Th(gene.name, scope="row"),
                *(
                    html.Td([f"{mean:.3f}", html.Span(f"± {error:.3f}", className="err")])
                    for mean, error in zip(gene.means, gene.errors, strict=True)
                ),
            ]
        )
        for gene in facts.genes
    ]
    table = html.Table([html.Thead(head), html.Tbody(rows)], className="sides")
    return html.Div(table, className="scroll long", tabIndex="0")


def dependence_table(facts: DependenceFacts) -> Component:
    """The answers to a gene with the mean of the objective, its standard error, and who gives them."""
    factor, unit = facts.of.scale([point.mean for point in facts.points])
    head = html.Tr([html.Th("answer"), html.Th(facts.of.title(unit)), html.Th("known networks")])
    rows = [
        html.Tr(
            [
                html.Th(str(point.label), scope="row"),
                html.Td(with_error(point.mean / factor, point.error / factor)),
                html.Td(f"{point.networks:,}"),
            ]
        )
        for point in facts.points
    ]
    table = html.Table([html.Thead(head), html.Tbody(rows)], className="sides")
    return html.Div(table, className="scroll long", tabIndex="0")


def _text_rows(rows: Sequence[ComparedText]) -> list[Component]:
    return [
        html.Tr(
            [
                html.Th(row.name, scope="row"),
                *(
                    html.Td(html.Mark(text) if other else text, className="text")
                    for text, other in zip(row.texts, row.differs, strict=True)
                ),
            ]
        )
        for row in rows
    ]


def _table(reading: Reading, facts: SideBySide, rows: list[Component], kind: str = "sides") -> Component:
    head = html.Tr([html.Th(""), *(html.Th(link_to(reading, digest)) for digest in facts.digests)])
    table = html.Table([html.Thead(head), html.Tbody(rows)], className=kind)
    return html.Div(table, className="scroll", tabIndex="0")
