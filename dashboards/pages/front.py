"""The front of a study: any quantities on the axes, bounds by sliders, and the network behind each point."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import dash
from dash import Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from dashboards.app.behind import behind
from dashboards.app.controls import (
    GRAPH,
    NO_BOUND,
    plain,
    slider_of,
)
from dashboards.app.explored import MOST_CHOSEN, Explored, listed_networks
from dashboards.app.files import FILES, asked_kind, file_row, kinds_of, networks_file
from dashboards.app.front_controls import AXES, BOUNDS, CAPTION, MOST_BOUNDS, front_pickers, front_sliders
from dashboards.app.front_view import (
    best_line,
    bound_word,
    first_axes,
    priced_line,
    study_line,
    worth_drawing,
)
from dashboards.app.growth_view import Growths
from dashboards.app.live_store import LiveStore, key_of
from dashboards.app.look import Look
from dashboards.app.modified_table import modified_table
from dashboards.app.panels import compare_link, network_panel, network_rows
from dashboards.app.replay import connect_replay, replay_line, replay_row
from dashboards.app.training_now import news, told, training_lines, trainings_now
from dashboards.facts.baselines import verdict_sentences
from dashboards.facts.modified import modified_facts
from dashboards.facts.progress import state_of
from dashboards.facts.reading import Reading
from dashboards.facts.replay import last_number, members_after
from dashboards.figures.explorer import explorer_figure
from dashboards.pages.base import MOST_COMPARED, Control, Page, Place, pages, whole_number
from dashboards.style.theme import blank_figure
from foundation.errors import NasError
from nas.study.tally import engine_warning

POLL_MS = 2000
PACE_MS = 5000
HEIGHT = 560
CLICKED = """
(click) => {
  const number = click?.points?.[0]?.customdata;
  return Number.isInteger(number) ? number : dash_clientside.no_update;
}
"""
CHOSEN = f"""
(selected) => (selected?.points || []).map(each => each.customdata)
  .filter(Number.isInteger).slice(0, {MOST_CHOSEN}).join(".")
"""
FOUND = """
(seen, found) => {
  if (!seen) return dash_clientside.no_update;
  const grown = Math.floor(Math.log(1 + seen.points) / Math.log(1.05));
  const {members, measured, look, after} = seen, next = {members, measured, look, after, grown};
  return JSON.stringify(next) === JSON.stringify(found) ? dash_clientside.no_update : next;
}
"""
"""What stands beside and below the figure follows this alone: another front, or 5 % more networks."""


@pages.add
class Front(Page):
    """The plane of two quantities, or the space of three, with everything that a reader set."""

    name = "front"
    title = "Front"
    rank = 10
    linked: ClassVar[Mapping[str, Control]] = {
        "x": Control("front-x.value", str),
        "y": Control("front-y.value", str),
        "z": Control("front-z.value", str),
        "colour": Control("front-colour.value", str),
        "size": Control("front-size.value", str),
        "log": Control("front-log.value", list),
        "over": Control("front-over.value", list),
        "table": Control("front-table.value", str),
        "pick": Control("front-pick.data", int),
        "after": Control("front-after.data", int),
        "chosen": Control("front-chosen.data", str),
        **{f"bound{i}": Control(f"{name}.value", float) for i, name in enumerate(BOUNDS)},
    }
    sent: ClassVar[Mapping[str, type]] = {
        "front-poll.n_intervals": int,
        "front-pace.n_intervals": int,
        "front-study.data": str,
        "front-trained.data": int,
        "front-seen.data": dict,
        "front-found.data": dict,
        "front-bounds.data": list,
        **kinds_of("front"),
    }

    def __init__(self, live: LiveStore) -> None:
        super().__init__(live)
        self._growths = Growths(live)
        self._explored = Explored(live)

    def layout(self, place: Place) -> list[Component]:
        """The page before its figure is drawn."""
        reading = self.live.study(place.study)
        study = reading.study
        quantities = reading.quantities()
        best_known = reading.known.corrected
        sliders = [slider_of(of, best_known) for of in reading.objectives[:MOST_BOUNDS]]
        sliders += [None] * (MOST_BOUNDS - len(sliders))
        x, y = first_axes(reading.objectives)
        over = [each for each in self.live.names() if each != study.name]
        training = trainings_now(reading)
        usual: dict[str, Any] = {"x": x, "y": y, "log": [], "over": []}
        usual |= {f"bound{i}": slider.free if slider else NO_BOUND for i, slider in enumerate(sliders)}
        words = {f"bound{i}": bound_word(slider.of) for i, slider in enumerate(sliders) if slider}
        figure = [
            front_pickers(place, reading, quantities, (x, y), over),
            dcc.Graph(
                figure=blank_figure(HEIGHT), id="front-plot", config=GRAPH, style={"minHeight": f"{HEIGHT}px"}
            ),
            replay_row(reading, whole_number(place.number("after"))),
            html.Div(id="front-replay", role="status"),
            html.P(CAPTION, className="caption"),
        ]
        aside = [
            html.Details(
                [html.Summary("What may it cost?"), *front_sliders(place, reading, sliders)], open=True
            ),
            html.Div(id="front-best", className="best", role="status"),
            html.Div(id="front-panel"),
        ]
        return [
            html.H1(study.name),
            html.P(study_line(reading), id="front-line"),
            html.Div(training_lines(training), id="front-training"),
            html.P("; ".join(map(str, study.plan.scenarios)), className="muted"),
            *(html.P(f"{warning}.") for warning in filter(None, [engine_warning(study)])),
            *map(html.P, reading.kept("verdicts", lambda: verdict_sentences(study))),
            html.Div(
                [
                    html.Div(figure, className="plane"),
                    html.Aside(aside),
                    html.Div(self._below(reading), className="below"),
                ],
                className="split",
            ),
            dcc.Store(id="front-study", data=key_of(study.record)),
            dcc.Store(id="front-trained", data=told(training)),
            dcc.Store(id="front-seen"),
            dcc.Store(id="front-found"),
            dcc.Store(id="front-pick", data=whole_number(place.number("pick"))),
            dcc.Store(id="front-chosen", data=place.one("chosen") or None),
            dcc.Store(id="front-bounds", data=[slider.plain if slider else None for slider in sliders]),
            self.usual({**usual, "@": words}),
            dcc.Interval(id="front-poll", interval=POLL_MS),
            dcc.Interval(id="front-pace", interval=PACE_MS),
        ]

    def _below(self, reading: Reading) -> list[Component]:
        """What stands below the figure: the networks as a table, modified ones, how the front grew."""
        study = reading.study
        growth = dcc.Graph(
            figure=blank_figure(300), id="front-growth", config=GRAPH, style={"height": "300px"}
        )
        return [
            html.Section([html.H2("Networks"), html.Div(id="front-rows"), *file_row("front")]),
            *modified_table(reading.kept("modified", lambda: modified_facts(study)), study.name),
            html.Section([html.H2("How the front grew"), growth, html.Div(id="front-grown")]),
        ]

    def connect(self, app: dash.Dash) -> None:
        """The figure follows the controls and the store; a click or a lasso chooses networks."""
        app.callback(
            output=[
                Output("front-plot", "figure"),
                Output("front-line", "children"),
                Output("front-best", "children"),
                Output("front-replay", "children"),
                Output("front-seen", "data"),
            ],
            inputs={
                "tick": Input("front-poll", "n_intervals"),
                "axes": [Input(f"front-{word}", "value") for word in AXES],
                "log": Input("front-log", "value"),
                "over": Input("front-over", "value"),
                "table": Input("front-table", "value"),
                "pick": Input("front-pick", "data"),
                "after": Input("front-after", "data"),
                "bounds": [Input(name, "value") for name in BOUNDS],
                "look": Input("look", "data"),
            },
            state={
                "kept": State("front-bounds", "data"),
                "study": State("front-study", "data"),
                "seen": State("front-seen", "data"),
            },
        )(self.draw)
        self._connect_rest(app)

    def _connect_rest(self, app: dash.Dash) -> None:
        """What stands around the figure: the replay, what trains, the network picked, tables and curves."""
        connect_replay(app)
        app.callback(
            Output("front-training", "children"),
            Output("front-trained", "data"),
            Input("front-pace", "n_intervals"),
            State("front-study", "data"),
            State("front-trained", "data"),
            prevent_initial_call=True,
        )(self.training)
        app.clientside_callback(
            CLICKED, Output("front-pick", "data"), Input("front-plot", "clickData"), prevent_initial_call=True
        )
        app.clientside_callback(
            CHOSEN,
            Output("front-chosen", "data"),
            Input("front-plot", "selectedData"),
            prevent_initial_call=True,
        )
        app.clientside_callback(
            FOUND, Output("front-found", "data"), Input("front-seen", "data"), State("front-found", "data")
        )
        app.callback(
            Output("front-panel", "children"),
            Input("front-pick", "data"),
            Input("front-found", "data"),
            State("front-study", "data"),
        )(self.panel)
        app.callback(
            Output("front-rows", "children"),
            Output("front-growth", "figure"),
            Output("front-grown", "children"),
            Input("front-chosen", "data"),
            Input("front-found", "data"),
            Input("front-over", "value"),
            State("front-study", "data"),
            State("front-after", "data"),
        )(self.below)
        app.callback(
            output=Output("front-file", "data"),
            inputs={"clicks": [Input(f"front-{kind}", "n_clicks") for kind in FILES]},
            state={
                "axes": [State(f"front-{word}", "value") for word in AXES],
                "bounds": [State(name, "value") for name in BOUNDS],
                "kept": State("front-bounds", "data"),
                "log": State("front-log", "value"),
                "over": State("front-over", "value"),
                "table": State("front-table", "value"),
                "pick": State("front-pick", "data"),
                "after": State("front-after", "data"),
                "chosen": State("front-chosen", "data"),
                "study": State("front-study", "data"),
            },
            prevent_initial_call=True,
        )(self.file)

    def file(self, *, clicks: Any, study: Any, chosen: Any, after: Any, axes: Any, **asked: Any) -> Any:
        """The networks that are listed, and the figure as it is, as a file."""
        kind = asked_kind(self.name)
        if study is None or not kind or not all(axes[:2]):
            return no_update
        try:
            reading, after = self.live.by_key(study), whole_number(after)
            trials, note = listed_networks(reading, chosen, after)
            facts, _ = self._explored.facts(reading, axes=axes, after=after, **asked)
        except NasError:
            return no_update  # the line about the study says what is wrong
        drawn = explorer_figure(facts, HEIGHT)
        return networks_file(kind, reading, trials, drawn, f"{plain(CAPTION)} {note}", what="front")

    def draw(
        self,
        *,
        axes: Sequence[Any],
        bounds: Sequence[Any],
        kept: Any,
        study: Any,
        seen: Any,
        log: Any = None,
        over: Any = None,
        table: Any = None,
        pick: Any = None,
        after: Any = None,
        look: Any = None,
        tick: Any = None,
    ) -> tuple[Any, Any, Any, Any, Any]:
        """The figure, the line about the study, the best network, what is replayed, and the state shown.

        No update where nothing changed; of a study that was deleted meanwhile the line says so.
        """
        nothing = (no_update,) * 5
        after = whole_number(after)
        if study is None or not all(axes[:2]):
            return nothing
        try:
            reading = self.live.by_key(study)
            wanted = self._wanted(reading, [axes, log, over, table, pick, bounds, look], after)
            if isinstance(seen, dict) and all(seen.get(k) == v for k, v in wanted.items() if k != "points"):
                return nothing
            if not worth_drawing(seen, wanted):
                return no_update, study_line(reading), no_update, no_update, no_update
            facts, priced = self._explored.facts(
                reading,
                axes=axes,
                bounds=bounds,
                kept=kept,
                log=log,
                over=over,
                table=table,
                pick=pick,
                after=after,
            )
        except NasError as error:
            return no_update, f"gone: {error}", no_update, no_update, None
        figure = Look.read(wanted["look"]).dressed(explorer_figure(facts, HEIGHT))
        figure.update_layout(uirevision=f"{study}/{axes[:3]}")
        best = [*priced_line(priced), *best_line(reading, facts)]
        return figure, study_line(reading), best, replay_line(reading, facts), wanted

    def _wanted(self, reading: Reading, asked: Any, after: int | None) -> dict[str, Any]:
        """What decides how the page looks, in few bytes: every poll sends it back."""
        members = [trial.number for trial in reading.members]
        return {
            "revision": reading.revision,
            "asked": zlib.crc32(repr([*asked, after]).encode()),
            "after": after,
            "last": last_number(reading),
            "members": zlib.crc32(repr(members).encode()),
            "measured": reading.last_measurement,
            "look": str(Look.read(asked[-1])),
            "state": state_of(reading)[0],
            "points": reading.distinct,
        }

    def training(self, ticks: Any, study: Any, seen: Any) -> tuple[Any, Any]:
        """What trains just now, in few bytes, and what tells it from what a page has seen."""
        try:
            found = trainings_now(self.live.by_key(study)) if study else ()
        except NasError:
            found = ()  # the line about the study says what is wrong
        return news(training_lines(found), found, seen)

    def panel(self, pick: Any, seen: Any, study: Any) -> Any:
        """The network that was picked; before that, the first one of the front."""
        if study is None:
            return no_update
        try:
            reading = self.live.by_key(study)
            trial = reading.trial(pick) if isinstance(pick, int) else None
            if trial is not None:
                return network_panel(reading, trial)
            after = whole_number(seen.get("after")) if isinstance(seen, dict) else None
            first = reading.members[:1]
            if after is not None:
                first = tuple(reading.whole(members_after(reading, after)[:1]).values())
            if not first:
                return [html.P("Nothing is scored yet. Networks appear here as they are.", className="muted")]
            lead = f"The best of the front in {reading.objectives[0].label}. Click a point to see another."
            return network_panel(reading, first[0], lead)
        except NasError as error:
            return [html.P(str(error))]

    def below(self, chosen: Any, seen: Any, over: Any, study: Any, after: Any = None) -> tuple[Any, Any, Any]:
        """The networks of the front, or of a lasso, as a table; and how the front grew, with its caption."""
        if study is None:
            return no_update, no_update, no_update
        try:
            reading = self.live.by_key(study)
            after = whole_number(after)
            trials, note = listed_networks(reading, chosen, after)
            look = Look.read(seen.get("look") if isinstance(seen, dict) else None)
            grown = self._growths.of([reading, *self._explored.overlays(over, reading)])
            figure = look.dressed(grown.figure(after))
            rows = network_rows(reading, trials, reading.objectives, note)
            if len(trials) > 1:
                few = len(trials) <= MOST_COMPARED
                text = "Compare them" if few else f"Compare the first {MOST_COMPARED}"
                rows.append(html.P(compare_link(reading, trials, text), className="more"))
            return rows, figure, [html.P(grown.told, className="caption"), behind(figure)]
        except NasError as error:
            return [html.P(str(error))], no_update, no_update
