"""The device of a study: its latency table as curves, how well it predicts, what is emulated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import dash
from dash import Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from dashboards.app.behind import behind
from dashboards.app.controls import command, picker, term
from dashboards.app.live_store import key_of
from dashboards.app.look import Look
from dashboards.app.panels import NONE
from dashboards.facts.against import AgainstFacts, Ratio
from dashboards.facts.against import against as against_each_other
from dashboards.facts.anatomy import READINGS
from dashboards.facts.device import (
    FITTED,
    HELD_OUT,
    MEMBER,
    WholePair,
    device_curves,
    mean_error,
    not_really_run,
    whole_pairs,
)
from dashboards.facts.reading import Reading
from dashboards.facts.rescoring import table_named, tables_for
from dashboards.figures.device import curves_figure, pairs_figure
from dashboards.figures.table_error import TITLES
from dashboards.pages.base import Control, Page, Place, pages
from foundation.errors import NasError
from foundation.text import count, percent, with_error
from hw_profiles.latency.table import LatencyTable
from nas.tables.table_facts import machine_of

ROLES = {
    HELD_OUT: "networks that the table has not seen",
    FITTED: "networks that it was fitted to",
    MEMBER: "networks on the front of this study",
}


@pages.add
class Device(Page):
    """One latency table: that of the study's first scenario, or another that prices its networks."""

    name = "device"
    title = "Device"
    rank = 40
    linked: ClassVar[Mapping[str, Control]] = {
        "table": Control("device-table.value", str),
        "kind": Control("device-kind.value", str),
        "against": Control("device-against.value", str),
    }
    sent: ClassVar[Mapping[str, type]] = {"device-study.data": str}

    def layout(self, place: Place) -> list[Component]:
        """The page before its figures are drawn."""
        reading = self.live.study(place.study)
        tables = tables_for(reading)
        first = next(iter(tables), "")
        chosen = place.one("table", tables, first)
        table = table_named(reading, chosen)
        kinds = device_curves(table).kinds if table is not None else ()
        kind = place.one("kind", kinds) or None
        return [
            html.H1(["Device", html.Span(f" of {reading.study.name}", className="muted")]),
            html.Div(
                [
                    picker("latency table", "device-table", _options(tables), chosen or None),
                    picker(
                        "against",
                        "device-against",
                        _options(tables),
                        place.one("against", tables) or None,
                        clearable=True,
                        placeholder="no other table",
                    ),
                    picker(
                        "blocks",
                        "device-kind",
                        _options({name: name for name in kinds}),
                        kind,
                        clearable=True,
                        placeholder="one of every kind",
                    ),
                ],
                className="pickers",
                hidden=not tables,
            ),
            html.Div(id="device-shown"),
            dcc.Store(id="device-study", data=key_of(reading.study.record)),
            self.usual({"table": first, "kind": None, "against": None}),
        ]

    def connect(self, app: dash.Dash) -> None:
        """The figures follow the table, the kind of block and the look of the page."""
        app.callback(
            Output("device-shown", "children"),
            Output("device-kind", "options"),
            Input("device-table", "value"),
            Input("device-kind", "value"),
            Input("look", "data"),
            State("device-study", "data"),
            Input("device-against", "value"),
        )(self.shown)

    def shown(self, which: Any, kind: Any, look: Any, study: Any, against: Any = None) -> tuple[Any, Any]:
        """Curves, predictions beside measurements, and remarks; and the kinds of block of this table.

        With a table `against` it, the curves of both, how many times as long it takes, and its remarks.
        """
        if study is None:
            return no_update, no_update
        try:
            reading = self.live.by_key(study)
            table = table_named(reading, str(which)) if which else None
            shown = Look.read(look)
            other = table_named(reading, str(against)) if against and against != which else None
            parts, kinds = _curves(table, str(kind or ""), shown, other)
            own, _, word = str(which or "own:").partition(":")
            scenario = word if own == "own" else NONE  # nothing was measured under another table
            parts += _pairs(whole_pairs(reading, table, scenario), shown)
            parts.append(html.Section([html.H2("Emulated or illegal"), *_remarks(reading, table, other)]))
        except NasError as error:
            return [html.P(str(error))], no_update
        return parts, _options({name: name for name in kinds})


def _options(words: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"label": label, "value": word} for word, label in words.items()]


def _remarks(reading: Reading, table: LatencyTable | None, other: LatencyTable | None) -> list[Component]:
    """What is emulated or illegal by the table, and by one against it."""
    lists: list[Component] = [html.Ul([html.Li(text) for text in not_really_run(reading, table)])]
    if table is None or other is None:
        return lists
    there = html.Ul([html.Li(text) for text in not_really_run(reading, other)])
    return [html.H3(_named(table)), *lists, html.H3(_named(other)), there]


def _named(table: LatencyTable) -> str:
    return f"{machine_of(table)}, {table.scenario}"


def _curves(
    table: LatencyTable | None, kind: str, look: Look, other: LatencyTable | None
) -> tuple[list[Component], Sequence[str]]:
    if table is None:
        return [
            html.P("This study has no latency table here that could be drawn. One is made on the device by"),
            command("nas profile"),
        ], ()
    told = f"{machine_of(table)}: {count(len(table.entries), 'part')} measured under {table.scenario}."
    head = html.H2("What a block adds to a network")
    if other is None:
        facts = device_curves(table, kind)
        figure = curves_figure(facts, narrow=look.narrow)
        section = [head, look.graph(figure), html.P(CURVES, className="caption"), behind(figure)]
        return [html.P(told), html.Section(section)], facts.kinds
    both = against_each_other(table, other, kind)
    figure = curves_figure(both.first, both.second, narrow=look.narrow)
    caption = f"Solid: {_named(table)}. Dotted: {_named(other)}. {CURVES}"
    missing = [html.P(text) for text in both.missing]
    section = [head, look.graph(figure), html.P(caption, className="caption"), *missing]
    section += [_ratios(both), behind(figure)]
    return [html.P(told), html.Section(section)], both.first.kinds


def _ratios(both: AgainstFacts) -> Component:
    """How many times as long each block takes by the second table."""
    heads: list[Component | str] = ["block", "width"]
    heads += [term("prefill", "prefill, times"), term("decode", "decode, times")]
    rows = [
        html.Tr(
            [
                html.Th(name, scope="row"),
                html.Td(f"{both.at[name]:,}"),
                *(html.Td(_times(found[reading])) for reading in READINGS),
            ]
        )
        for name, found in both.ratios.items()
    ]
    head = html.Thead(html.Tr([html.Th(text) for text in heads]))
    table = html.Table([head, html.Tbody(rows)], className="sides")
    told = "How many times as long a block takes by the second table, with one standard error."
    return html.Div(
        [html.Div(table, className="sides scroll"), html.P(told, className="caption")], hidden=not rows
    )


def _times(ratio: Ratio) -> str:
    return with_error(ratio.value, ratio.error) if math.isfinite(ratio.value) else NONE


CURVES = (
    "Filled marks were measured, open ones are interpolated between blocks that were; both as the table"
    " corrects them for whole networks, with one standard error. A block whose decode state does not grow is"
    " as fast at every position."
)


def _pairs(pairs: Mapping[str, Sequence[WholePair]], look: Look) -> list[Component]:
    head = html.H2("Predicted against measured")
    if not any(pairs.values()):
        text = "No whole network was both predicted and measured here."
        return [html.Section([head, html.P(text, className="muted")])]
    caption = "Whole networks; on the dotted line both agree. Lines are one standard error."
    figure = pairs_figure(pairs, narrow=look.narrow)
    parts = [look.graph(figure), html.P(caption, className="caption"), _errors(pairs), behind(figure)]
    return [html.Section([head, *parts])]


def _errors(pairs: Mapping[str, Sequence[WholePair]]) -> Component:
    """The mean error of predictions, by whose networks they are."""
    heads = ["mean absolute error", *(TITLES[name] for name in pairs), "networks"]
    rows = []
    for role, words in ROLES.items():
        found = [mean_error(pair for pair in some if pair.role == role) for some in pairs.values()]
        known = [each for each in found if each is not None]
        if known:
            cells = [percent(each[0], each[1]) if each else NONE for each in found]
            most = f"{max(each[2] for each in known):,}"
            rows.append(html.Tr([html.Th(words, scope="row"), *map(html.Td, [*cells, most])]))
    head = html.Thead(html.Tr([html.Th(text) for text in heads]))
    table = html.Table([head, html.Tbody(rows)], className="sides")
    return html.Div(table, className="scroll", hidden=not rows)
