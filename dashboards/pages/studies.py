"""All studies of a store: how far each is, what it found, what fails; running ones follow their search."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

import dash
from dash import Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from dashboards.app.controls import command, picker, term
from dashboards.app.training_now import news, training_lines, trainings_now
from dashboards.facts.growth import HypervolumeFacts
from dashboards.facts.progress import ProgressFacts, progress_facts
from dashboards.facts.quantities import TIMES, Quantity
from dashboards.figures.sparkline import sparkline
from dashboards.pages.base import Control, Page, Place, address, pages
from foundation.errors import StoreError
from foundation.text import count, duration
from nas.study.trial import Value

POLL_MS = 5000

MOST_WORKERS = 8
"""Workers whose trials are listed."""

ORDERS: Mapping[str, str] = {
    "newest": "newest first",
    "name": "name",
    "state": "running first",
    "trials": "most trials first",
    "front": "largest front first",
}
STATES = ("running", "being read", "interrupted", "failed", "stopped", "not started", "complete")


@pages.add
class Studies(Page):
    """The list of studies."""

    name = "studies"
    title = "Studies"
    of_study = False
    rank = 0
    linked: ClassVar[Mapping[str, Control]] = {
        "find": Control("studies-find.value", str),
        "order": Control("studies-order.value", str),
    }
    sent: ClassVar[Mapping[str, type]] = {
        "studies-poll.n_intervals": int,
        "studies-seen.data": int,
        "studies-trained.data": int,
    }

    def layout(self, place: Place) -> list[Component]:
        """The list as it is asked for."""
        find, order = place.one("find"), place.one("order", ORDERS, "newest")
        table, seen = self.update(find, order, None)
        training, trained = self.training(None)
        orders = [{"label": label, "value": name} for name, label in ORDERS.items()]
        return [
            html.H1("Studies"),
            html.Div(
                [
                    html.Label(
                        [
                            html.Span("search"),
                            dcc.Input(
                                find,
                                id="studies-find",
                                type="search",
                                debounce=0.2,
                                placeholder="name, state, reason",
                            ),
                        ]
                    ),
                    picker("order", "studies-order", orders, order),
                    dcc.Link("compare studies", href=address("comparison")),
                ],
                className="pickers",
            ),
            html.Div(training, id="studies-training"),
            html.Div(table, id="studies-list"),
            dcc.Store(id="studies-seen", data=seen),
            dcc.Store(id="studies-trained", data=trained),
            dcc.Interval(id="studies-poll", interval=POLL_MS),
            self.usual({"find": "", "order": "newest"}),
        ]

    def connect(self, app: dash.Dash) -> None:
        """The list follows the store, what is searched for, and its order."""
        app.callback(
            Output("studies-list", "children"),
            Output("studies-seen", "data"),
            Input("studies-poll", "n_intervals"),
            Input("studies-find", "value"),
            Input("studies-order", "value"),
            State("studies-seen", "data"),
            prevent_initial_call=True,
        )(lambda ticks, find, order, seen: self.update(find, order, seen))
        app.callback(
            Output("studies-training", "children"),
            Output("studies-trained", "data"),
            Input("studies-poll", "n_intervals"),
            State("studies-trained", "data"),
            prevent_initial_call=True,
        )(lambda ticks, seen: self.training(seen))

    def training(self, seen: Any) -> tuple[Any, Any]:
        """What trains just now, study by study; apart from the list, which need not be sent again for it."""
        known = [(reading.study.name, trainings_now(reading)) for reading in self.live.known]
        found = [(name, trainings) for name, trainings in known if trainings]
        lines: list[Component] = [
            html.Div([dcc.Link(name, href=address(study=name)), *training_lines(trainings)])
            for name, trainings in found
        ]
        return news(lines, found, seen)

    def update(self, find: Any, order: Any, seen: Any) -> tuple[Any, Any]:
        """The list, and what tells it from another one; no update where nothing changed."""
        try:
            readings = self.live.all()
        except StoreError as error:
            return html.P(str(error)), None
        unreadable = [str(study) for study in self.live.unreadable]
        facts = [progress_facts(reading) for reading in readings]
        state = zlib.crc32(repr([find, order, unreadable, *map(_told, facts)]).encode())
        if state == seen:
            return no_update, no_update
        words = str(find or "").casefold().split()
        found = [each for each in facts if all(word in _searched(each) for word in words)]
        return studies_list(ordered(found, str(order)), unreadable, empty=not facts), state


def _told(facts: ProgressFacts) -> tuple[Any, ...]:
    """What a row says; times go on by themselves."""
    working = [(each.worker, each.number) for each in facts.working]
    return facts.name, facts.created, facts.done, facts.state, facts.front, facts.error, working, facts.scored


def _searched(facts: ProgressFacts) -> str:
    reasons = " ".join(reason for reason, _ in facts.failures)
    return f"{facts.name} {facts.state} {facts.error} {reasons}".casefold()


def ordered(facts: Sequence[ProgressFacts], order: str) -> list[ProgressFacts]:
    """Studies in one of the `ORDERS`; the store lists them newest first."""
    match order:
        case "name":
            return sorted(facts, key=lambda each: each.name.casefold())
        case "state":
            return sorted(facts, key=lambda each: STATES.index(each.state))
        case "trials":
            return sorted(facts, key=lambda each: -each.done)
        case "front":
            return sorted(facts, key=lambda each: -(each.front or 0))
        case _:
            return list(facts)


def studies_list(
    facts: Sequence[ProgressFacts], unreadable: Sequence[str] = (), *, empty: bool = False
) -> Component:
    """All studies, one block each, and below them a line about each that cannot be read."""
    if empty and not unreadable:
        return html.Div(
            [
                html.P("No study yet. This one takes some minutes on a laptop, and appears here as it runs:"),
                command("nas search laptop --name first"),
                html.P(
                    "It searches a small space of language models for those that predict text best, decode"
                    " fastest and weigh least, and keeps each that is best in some exchange of these."
                ),
            ],
            className="first",
        )
    if not facts and not unreadable:
        return html.P("No study is like that.", className="muted")
    head: list[Any] = ["study", "trials", "state", term("front"), "best of the front", term("hypervolume")]
    rows = [html.Tr([html.Td(cell, className=label) for label, cell in _cells(each)]) for each in facts]
    table = html.Table([html.Thead(html.Tr([html.Th(name) for name in head])), html.Tbody(rows)])
    return html.Div([table, *map(html.P, unreadable)], className="studies")


def _cells(facts: ProgressFacts) -> list[tuple[str, Any]]:
    created = datetime.fromtimestamp(facts.created).strftime("%-d %b %Y, %H:%M")
    bests = [_best(of, value) for of, value in facts.best.items()]
    name = dcc.Link(facts.name, href=address(study=facts.name))
    return [
        ("", [name, html.Div(created, className="muted small")]),
        ("trials", _trials(facts)),
        ("state", _state(facts)),
        ("front", "…" if facts.front is None else f"{facts.front:,}"),
        ("best", html.Div(bests, className="bests")),
        ("hypervolume", _sparkline(facts.growth)),
    ]


def _trials(facts: ProgressFacts) -> Component:
    share = 100 * min(1.0, facts.done / facts.planned) if facts.planned else 100.0
    bar = html.Div(html.Div(style={"width": f"{share:.1f}%"}), className="bar")
    speed: list[Component | str] = []
    if facts.rate is not None:
        speed.append(term("rate", f"{60 * facts.rate:,.1f} a minute"))
    if facts.seconds_left is not None:
        speed.append(f", {duration(facts.seconds_left)} left")
    text = "…" if facts.front is None else f"{facts.done:,} of {facts.planned:,}"
    return html.Div([text, bar, html.Div(speed, className="muted small")])


def _state(facts: ProgressFacts) -> Component:
    parts: list[Component] = [html.Span(facts.state, className=f"state {facts.state.split()[0]}")]
    if facts.error:
        parts.append(html.Div(facts.error, className="small error"))
    if facts.working:
        lines = [
            html.Li(
                f"{each.worker}: {each.stage} trial {each.number:,}"
                + (f", {each.steps:,} steps" if each.steps else "")
            )
            for each in facts.working[:MOST_WORKERS]
        ]
        parts.append(
            html.Details(
                [
                    html.Summary(f"{count(len({each.worker for each in facts.working}), 'worker')} at work"),
                    html.Ul(lines),
                ]
            )
        )
    if facts.failures:
        failed = sum(times for _, times in facts.failures)
        lines = [html.Li(f"{times:,} {TIMES} {reason}") for reason, times in facts.failures]
        parts.append(html.Details([html.Summary(f"{failed:,} failed"), html.Ul(lines)]))
    if facts.unreadable:
        parts.append(html.Div(f"{count(facts.unreadable, 'trial')} cannot be read", className="small"))
    return html.Div(parts)


def _best(of: Quantity, value: Value) -> Component:
    label = html.Span(f"{of.label} ", className="muted")
    return html.Div([label, value.marked(of.text(value.value))])


def _sparkline(facts: HypervolumeFacts | None) -> Component | str:
    if facts is None:
        return ""
    last = facts.shares[-1]
    half = next((n for n, share in zip(facts.numbers, facts.shares, strict=True) if share >= 0.9 * last), 0)
    about = f"nine tenths of today's volume after trial {half:,} of {facts.numbers[-1]:,}"
    return html.Img(src=sparkline(facts), alt=about, title=about, className="spark")
