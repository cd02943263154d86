"""One network: its layers drawn, every number with its error and origin, where it comes from, its Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import dash
from dash import Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from dashboards.app.controls import command, term
from dashboards.app.exports import Exports, formats, zip_file
from dashboards.app.files import FILES, asked_kind, file_row, kinds_of, text_file
from dashboards.app.lineage_view import lineage
from dashboards.app.live_store import LiveStore, key_of
from dashboards.app.look import Look
from dashboards.app.network_drawings import strip, strip_caption, trainings
from dashboards.app.panels import compare_link, groups_of, numbers_table
from dashboards.app.sample_view import sample_section, sample_text
from dashboards.app.samples import Samples
from dashboards.facts.anatomy import anatomy, table_of
from dashboards.facts.networks import architecture
from dashboards.facts.python_text import python_text
from dashboards.facts.reading import Reading
from dashboards.facts.study import study_facts
from dashboards.figures.strip import strip_figure
from dashboards.pages.base import Control, Page, Place, address, pages
from dashboards.report.pieces import network_page, trials_csv, trials_json
from dashboards.shell_commands import network_commands
from foundation.errors import NasError, UnknownName
from nas.study.export import has_weights
from nas.study.modified import modified_trials
from nas.study.trial import Trial

LONGEST_NUMBER = 18
"""Digits of the number of a trial."""

BY = {"family": "block family", "bits": "bits of weights"}


@pages.add
class Network(Page):
    """The page of one architecture; without a digest, that of the first one of the front."""

    name = "network"
    title = "Network"
    rank = 20
    linked: ClassVar[Mapping[str, Control]] = {
        "by": Control("network-by.value", str),
        "scenario": Control("network-scenario.value", str),
    }
    sent: ClassVar[Mapping[str, type]] = {
        "network-which.data": str,
        "network-to.value": str,
        "network-export.n_clicks": int,
        "network-poll.n_intervals": int,
        "network-sample.n_clicks": int,
        "network-prompt.value": str,
        "network-sample-poll.n_intervals": int,
        **kinds_of("network"),
    }

    def __init__(self, live: LiveStore) -> None:
        super().__init__(live)
        self.exports, self.samples = Exports(live.store.url), Samples(live.store.url)

    def layout(self, place: Place) -> list[Component]:
        """Everything that is known of a network."""
        reading = self.live.study(place.study)
        trial = self._trial(reading, place.rest)
        scenarios = [scenario.name for scenario in reading.study.plan.scenarios]
        return [
            html.H1(
                [
                    html.Code(trial.digest),
                    html.Span(f" trial {trial.number:,} of {reading.study.name}", className="muted"),
                ]
            ),
            html.Section([html.H2("Layers"), *self._drawing(place, scenarios)]),
            html.Div(
                [
                    html.Section([html.H2("Numbers"), numbers_table(reading, trial)]),
                    html.Section([html.H2("Trainings"), html.Div(id="network-trainings")]),
                ],
                className="pair",
            ),
            html.Section([html.H2("Where it comes from"), *lineage(reading, trial)]),
            *sample_section(reading, trial),
            html.Div(
                [
                    html.Section([html.H2("As Python"), python(reading, trial)]),
                    html.Section([html.H2("Take it home"), *take_home(reading), *commands(reading, trial)]),
                ],
                className="pair",
            ),
            dcc.Store(id="network-which", data=f"{key_of(reading.study.record)}/{trial.number}"),
            self.usual({"by": "family", "scenario": scenarios[0]}),
        ]

    def _drawing(self, place: Place, scenarios: Sequence[str]) -> list[Component]:
        """The place of the drawing, and what it may be coloured by."""
        chosen = place.one("scenario", scenarios, scenarios[0])
        return [
            html.Div(
                [
                    html.Div(
                        [
                            html.Span("colour by"),
                            dcc.RadioItems(
                                [{"label": text, "value": name} for name, text in BY.items()],
                                place.one("by", BY, "family"),
                                id="network-by",
                                inline=True,
                            ),
                        ],
                        className="radios",
                    ),
                    html.Div(
                        [
                            html.Span(term("scenario")),
                            dcc.RadioItems(
                                [{"label": name or "as searched", "value": name} for name in scenarios],
                                chosen,
                                id="network-scenario",
                                inline=True,
                            ),
                        ],
                        hidden=len(scenarios) < 2,
                        className="radios",
                    ),
                ],
                className="pickers",
            ),
            html.Div(id="network-strip"),
        ]

    def _trial(self, reading: Reading, digest: str) -> Trial:
        if not digest:
            if not reading.members:
                raise UnknownName(f"study {reading.study.name} has no scored network yet")
            return reading.members[0]
        number = reading.numbered(digest)
        trial = reading.whole([number]).get(number) if number is not None else None
        if trial is None:
            if any(digest == made.digest for made in modified_trials(reading.study)):
                name = reading.study.name
                raise UnknownName(
                    f"{digest} was made by modifiers after the search: its numbers stand on the front page of"
                    f" {name}, and nas show {name} {digest} prints it"
                )
            raise UnknownName(f"study {reading.study.name} has no scored network {digest!r}")
        return trial

    def connect(self, app: dash.Dash) -> None:
        """The drawing follows what colours it, the scenario and the look of the page."""
        app.callback(
            Output("network-strip", "children"),
            Output("network-trainings", "children"),
            Input("network-by", "value"),
            Input("network-scenario", "value"),
            Input("look", "data"),
            Input("network-which", "data"),
        )(self.drawn)
        app.callback(
            Output("network-file", "data"),
            *(Input(f"network-{kind}", "n_clicks") for kind in FILES),
            State("network-which", "data"),
            prevent_initial_call=True,
        )(self.file)
        app.callback(
            Output("network-progress", "children"),
            Output("network-poll", "disabled"),
            Output("network-zip", "data"),
            Input("network-export", "n_clicks"),
            Input("network-poll", "n_intervals"),
            State("network-to", "value"),
            State("network-which", "data"),
            prevent_initial_call=True,
        )(self.export)

        app.callback(
            Output("network-text", "children"),
            Output("network-sample-poll", "disabled"),
            Input("network-sample", "n_clicks"),
            Input("network-sample-poll", "n_intervals"),
            State("network-prompt", "value"),
            State("network-which", "data"),
            prevent_initial_call=True,
        )(self.sample)

    def sample(self, clicks: Any, ticks: Any, prompt: Any, which: Any) -> tuple[Any, Any]:
        """The text that the network writes, as far as it is; the page polls until it has ended."""
        reading, trial = self._shown(which)
        if reading is None or trial is None or not clicks:
            return no_update, True
        try:
            pressed = dash.ctx.triggered_id != "network-sample-poll"
            found = self.samples.of(reading.study, trial, str(prompt or ""), start=pressed)
        except NasError as error:
            return [html.P(str(error), className="muted")], True
        if found is None:
            return no_update, True
        return sample_text(found), found.ended

    def file(self, *asked: Any) -> Any:
        """The network as a file: JSON, CSV or a page of its own."""
        reading, trial = self._shown(asked[-1])
        kind = asked_kind(self.name)
        if reading is None or trial is None or not kind:
            return no_update
        name = f"{reading.study.name}-{trial.digest}.{kind}"
        if kind == "json":
            return text_file(trials_json(reading, [trial]), name)
        if kind == "csv":
            return text_file(trials_csv(reading, [trial]), name)
        scenario = reading.study.plan.scenarios[0]
        spec = architecture(reading.study, trial)
        facts = anatomy(spec, scenario, table_of(reading.study, scenario))
        if facts is None:
            return no_update
        title = f"{reading.study.name}: network {trial.digest}"
        groups = groups_of(reading, trial)
        text = network_page(title, strip_figure(facts), strip_caption(facts), groups, python_text(spec))
        return text_file(text, name)

    def export(self, clicks: Any, ticks: Any, to: Any, which: Any) -> tuple[Any, Any, Any]:
        """How far an export is; the page polls while it runs, and gets the file once."""
        reading, trial = self._shown(which)
        if reading is None or trial is None or not clicks:
            return no_update, no_update, no_update
        study, name = reading.study, str(to)
        try:
            polled = dash.ctx.triggered_id == "network-poll"
            job = self.exports.job(study.name, trial.digest, name) if polled else None
            job = job or self.exports.start(study, trial.digest, name)
        except NasError as error:
            return str(error), True, no_update
        if job.ended is None:
            return (
                f"exporting to {name} for {job.seconds:.0f} s, and checking it against our own model",
                False,
                no_update,
            )
        if job.error:
            return f"not exported: {job.error}", True, no_update
        self.exports.taken(study.name, trial.digest, name)
        told = f"exported in {job.seconds:.1f} s, {len(job.content) / 1e6:.1f} MB"
        return told, True, zip_file(job.content, f"{study.name}-{trial.digest}-{name}.zip")

    def _shown(self, which: Any) -> tuple[Reading | None, Trial | None]:
        """The network that the page is about; nothing where it is gone."""
        key, _, number = str(which or "").rpartition("/")
        if not (number.isascii() and number.isdecimal() and len(number) <= LONGEST_NUMBER):
            return None, None
        try:
            reading = self.live.by_key(key)
        except NasError:
            return None, None
        return reading, reading.whole([int(number)]).get(int(number))

    def drawn(self, by: Any, scenario: Any, look: Any, which: Any) -> tuple[Any, Any]:
        """The drawing of a network and of its trainings, each with a sentence that says how to read it."""
        key, _, number = str(which or "").rpartition("/")
        if not (number.isascii() and number.isdecimal() and len(number) <= LONGEST_NUMBER):
            return [], []
        try:
            reading = self.live.by_key(key)
        except NasError as error:
            return [html.P(str(error))], []
        trial = reading.whole([int(number)]).get(int(number))
        if trial is None:
            return [], []
        shown = Look.read(look)
        return strip(reading, trial, str(by), str(scenario or ""), shown), trainings(reading, trial, shown)


def take_home(reading: Reading) -> list[Component]:
    """Files for the browser, and an export where the study has weights and nothing of its own must be run."""
    parts = file_row("network")
    possible = reading.study.quality is not None and reading.study.source is None
    offered = [{"label": name, "value": name} for name in formats()] if possible else []
    parts.append(
        html.Div(
            [
                dcc.Dropdown(offered, "nas" if possible else None, id="network-to", clearable=False),
                html.Button("Export", id="network-export"),
                html.Span(id="network-progress", role="status", className="muted small"),
            ],
            className="buttons",
            hidden=not possible,
        )
    )
    return [
        *parts,
        dcc.Download(id="network-zip"),
        dcc.Interval(id="network-poll", interval=700, disabled=True),
    ]


def python(reading: Reading, trial: Trial) -> Component:
    """The architecture as Python, to copy."""
    spec = architecture(reading.study, trial)
    if spec is None:
        return html.P("Its parts are not registered here.", className="muted")
    text = python_text(spec)
    return html.Div(
        [dcc.Clipboard(content=text, title="copy"), html.Pre(html.Code(text))], className="source"
    )


def commands(reading: Reading, trial: Trial) -> list[Component]:
    """What to type for this network."""
    study = study_facts(reading.study, ())
    lines: Sequence[tuple[str, str]] = (
        *network_commands(study, trial.digest, weights=has_weights(reading.study, trial.digest)).items(),
        ("See it on the front", address(study=study.name, pick=trial.number)),
    )
    parts: list[Component] = [html.P(compare_link(reading, [trial], "Compare it with another network"))]
    for does, text in lines:
        shown = (
            dcc.Link("open the front with this network marked", href=text)
            if text.startswith("/")
            else command(text)
        )
        parts += [html.P(does, className="muted"), shown]
    return parts
