"""Several studies in one plane: their fronts, the volume that each dominates, and the joint front."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

import dash
from dash import Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from dashboards.app.behind import behind
from dashboards.app.controls import command, picker, term
from dashboards.app.files import text_file
from dashboards.app.live_store import LiveStore, key_of
from dashboards.app.look import Look
from dashboards.app.panels import number_parts
from dashboards.app.recent import Recent
from dashboards.facts.comparison import MAX_STUDIES, ComparisonFacts, JointMember, read_comparison
from dashboards.facts.reading import Reading
from dashboards.facts.seeds import settings_of
from dashboards.figures.comparison import fronts_figure, progress_figure
from dashboards.pages.base import Control, Page, Place, address, pages
from dashboards.report.comparison import GROWN, comparison_html, fronts_text, lead, volumes_text
from dashboards.report.tables import columns
from foundation.errors import NasError
from foundation.text import percent, significant
from nas.store import StudyRecord

LARGEST = 40_000
"""Trials of all studies together that are compared while a reader waits."""

KEPT = 4
"""Comparisons that are kept while no trial is added."""

MOST_ROWS = 60
"""Networks of the joint front that are listed."""


@pages.add
class Comparison(Page):
    """The studies that its address names; else the two newest."""

    name = "comparison"
    title = "Studies compared"
    of_study = False
    rank = 5
    linked: ClassVar = {"with": Control("comparison-with.value", list)}
    sent: ClassVar = {"comparison-json.n_clicks": int, "comparison-html.n_clicks": int}

    def __init__(self, live: LiveStore) -> None:
        super().__init__(live)
        self._kept: Recent[ComparisonFacts] = Recent(KEPT)

    def layout(self, place: Place) -> list[Component]:
        """The page before anything is read."""
        records = self.live.records()
        names, usual = [record.name for record in records], usual_pair(records)
        chosen = place.some("with", names)[:MAX_STUDIES] or usual
        options = [{"label": name, "value": name} for name in names]
        buttons = [html.Button(kind.upper(), id=f"comparison-{kind}") for kind in ("json", "html")]
        return [
            html.H1("Studies compared"),
            html.Div(
                picker("studies, two to six", "comparison-with", options, chosen, multi=True),
                className="wide",
            ),
            html.Div(html.P("Reading the studies…", className="muted awaited"), id="comparison-shown"),
            html.Section([html.H2("Take it home"), html.Div(buttons, className="buttons")]),
            dcc.Download(id="comparison-file"),
            self.usual({"with": usual}),
        ]

    def connect(self, app: dash.Dash) -> None:
        """All of it follows the choice."""
        app.callback(
            Output("comparison-shown", "children"),
            Input("comparison-with", "value"),
            Input("look", "data"),
        )(self.shown)
        app.callback(
            Output("comparison-file", "data"),
            Input("comparison-json", "n_clicks"),
            Input("comparison-html", "n_clicks"),
            State("comparison-with", "value"),
            prevent_initial_call=True,
        )(self.file)

    def shown(self, chosen: Any, look: Any) -> list[Component]:
        """The studies side by side; where they cannot be compared, why."""
        try:
            readings = self._readings(chosen)
            if sum(reading.distinct for reading in readings) > LARGEST:
                names = " ".join(reading.study.name for reading in readings)
                return [html.P("So many trials are compared by"), command(f"nas compare {names}")]
            return _sections(self._facts(readings), Look.read(look))
        except NasError as error:
            return [html.P(str(error))]

    def file(self, as_json: Any, as_page: Any, chosen: Any) -> Any:
        """The comparison for another program, or as a page that works offline."""
        try:
            facts = self._facts(self._readings(chosen))
        except NasError:
            return no_update  # the page says what is wrong
        if dash.ctx.triggered_id == "comparison-json":
            return text_file(json.dumps(facts.to_json(), indent=1), "compared.json")
        return text_file(comparison_html(facts), "compared.html")

    def _readings(self, chosen: Any) -> list[Reading]:
        names = [name for name in chosen if isinstance(name, str)] if isinstance(chosen, list) else []
        return [self.live.study(name) for name in dict.fromkeys(names)]

    def _facts(self, readings: Sequence[Reading]) -> ComparisonFacts:
        key = tuple((key_of(each.study.record), each.revision) for each in readings)
        return self._kept.get(key, lambda: read_comparison([reading.study for reading in readings]))


def usual_pair(records: Sequence[StudyRecord]) -> list[str]:
    """The newest study, and the newest other one with the same objectives; else the two newest."""
    asked = [(record.name, settings_of(record).get("objectives")) for record in records]
    for name, objectives in asked:
        like = [other for other, same in asked if other != name and same == objectives]
        if like:
            return [name, like[0]]
    return [name for name, _ in asked[:2]]


def _sections(facts: ComparisonFacts, look: Look) -> list[Component]:
    fronts = [fronts_figure(facts, pair) for pair in range(len(facts.studies[0].fronts))]
    grown = progress_figure(facts)
    drawn = [part for figure in fronts for part in (look.graph(figure), behind(figure))]
    return [
        html.P(lead(facts)),
        *(html.P(note, className="muted") for note in facts.notes),
        html.Section([html.H2("The fronts"), html.P(fronts_text(facts), className="caption"), *drawn]),
        html.Section(
            [html.H2("Dominated volumes"), _volumes(facts), html.P(volumes_text(facts), className="caption")]
        ),
        html.Section(
            [
                html.H2("How they grew"),
                look.graph(grown),
                html.P(GROWN, className="caption"),
                behind(grown),
            ]
        ),
        html.Section([html.H2("The joint front"), *_joint(facts)]),
    ]


def _volumes(facts: ComparisonFacts) -> Component:
    head: list[Component | str] = [
        "study",
        "engine",
        "scored",
        "on its front",
        term("hypervolume"),
        "share of all",
    ]
    head += [f"share after {facts.fewest:,}"] if facts.uneven else []
    head += ["on the joint front", "scored only here"]
    rows = []
    for each in facts.studies:
        cells = [each.engine, f"{each.study.distinct:,}", f"{len(each.front):,}", significant(each.volume, 4)]
        cells.append(percent(each.share, each.error))
        cells += [percent(each.share_at(facts.fewest))] if facts.uneven else []
        cells += [f"{each.joint:,}", f"{each.exclusive:,}"]
        name = dcc.Link(each.study.name, href=address(study=each.study.name))
        rows.append(html.Tr([html.Th(name, scope="row"), *map(html.Td, cells)]))
    return _table(head, rows)


def _joint(facts: ComparisonFacts) -> list[Component]:
    """The networks that no network of any of these studies dominates, and who scored them."""
    members = facts.joint[:MOST_ROWS]
    shown = columns([member.network for member in members], facts.objectives)
    rows = []
    for member in members:
        cells = [
            number_parts(member.network.best_known.get(c.quantity.name), c.factor, c.places) for c in shown
        ]
        rows.append(
            html.Tr(
                [
                    html.Th(_link(member), scope="row"),
                    *map(html.Td, cells),
                    html.Td(", ".join(each.study for each in member.discoveries), className="text"),
                ]
            )
        )
    about = (
        "The networks that no network of any of these studies dominates, and the studies that scored them."
    )
    if len(facts.joint) > len(members):
        about += f" The first {len(members)} of {len(facts.joint):,} are listed."
    table = _table(["network", *(column.title for column in shown), "scored by"], rows)
    return [html.P(about, className="muted"), table]


def _link(member: JointMember) -> Component:
    first = member.discoveries[0]
    where = address("network", first.study, first.digest)
    return dcc.Link(member.network.digest, href=where, className="mono")


def _table(head: Sequence[Any], rows: Sequence[Component]) -> Component:
    heads = html.Thead(html.Tr([html.Th(text) for text in head]))
    return html.Div(
        html.Table([heads, html.Tbody(list(rows))], className="sides named"),
        className="scroll long",
        tabIndex="0",
    )
