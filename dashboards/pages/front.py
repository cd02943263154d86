"""The front of a study: any quantities on the axes, bounds by sliders, and the network behind each point."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import dash
from dash import Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from dashboards.app.controls import (
    GRAPH,
    NO_BOUND,
    Slider,
    bounds_of,
    options_of,
    picker,
    slider_of,
    slider_row,
    term,
)
from dashboards.app.front_view import (
    best_line,
    bound_word,
    first_axes,
    priced_line,
    study_line,
    view_of,
    worth_drawing,
)
from dashboards.app.growth_view import Growths
from dashboards.app.live_store import LiveStore, key_of
from dashboards.app.modified_table import modified_table
from dashboards.app.panels import compare_link, network_panel, network_rows
from dashboards.app.replay import connect_replay, replay_line, replay_row
from dashboards.app.training_now import news, told, training_lines, trainings_now
from dashboards.facts.baselines import baseline_facts, verdict_sentences
from dashboards.facts.explore import explore
from dashboards.facts.modified import modified_facts
from dashboards.facts.progress import state_of
from dashboards.facts.quantities import Quantity
from dashboards.facts.reading import Reading
from dashboards.facts.replay import last_number, members_after
from dashboards.facts.rescoring import Rescored, rescored, tables_for
from dashboards.figures.explorer import explorer_figure
from dashboards.pages.base import MOST_COMPARED, Control, Page, Place, pages, whole_number
from dashboards.style.theme import SCHEMES, blank_figure, with_scheme
from foundation.errors import NasError

POLL_MS = 2000
PACE_MS = 5000
HEIGHT = 560
MOST_BOUNDS = 6
"""Sliders; a study with more objectives has none for the others."""

MOST_PRICED = 8
"""Studies by another table that are kept."""

MOST_CHOSEN = 200
"""Points of a lasso that are listed."""

CLICKED = """
(click) => {
  const number = click?.points?.[0]?.customdata;
  return Number.isInteger(number) ? number : dash_clientside.no_update;
}
"""
CHOSEN = f"""
(selected) => (selected?.points || []).map(each => each.customdata)
  .filter(Number.isInteger).slice(0, {MOST_CHOSEN})
"""
FOUND = """
(seen, found) => {
  if (!seen) return dash_clientside.no_update;
  const grown = Math.floor(Math.log(1 + seen.points) / Math.log(1.05));
  const {members, measured, scheme, after} = seen, next = {members, measured, scheme, after, grown};
  return JSON.stringify(next) === JSON.stringify(found) ? dash_clientside.no_update : next;
}
"""
"""What stands beside and below the figure follows this alone: another front, or 5 % more networks."""

BOUNDS = tuple(f"front-bound-{i}" for i in range(MOST_BOUNDS))


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
        "front-chosen.data": list,
    }

    def __init__(self, live: LiveStore) -> None:
        super().__init__(live)
        self._growths = Growths(live)
        self._kept: OrderedDict[tuple[str, int, str], Rescored | None] = OrderedDict()

    def layout(self, place: Place) -> list[Component]:
        """The page before its figure is drawn."""
        reading = self.live.study(place.study)
        study = reading.study
        quantities = reading.quantities()
        best_known = reading.known.corrected
        sliders = [slider_of(of, best_known) for of in reading.objectives[:MOST_BOUNDS]]
        sliders += [None] * (MOST_BOUNDS - len(sliders))
        x, y = first_axes(reading.objectives)
        training = trainings_now(reading)
        usual: dict[str, Any] = {"x": x, "y": y, "log": [], "over": []}
        usual |= {f"bound{i}": slider.free if slider else NO_BOUND for i, slider in enumerate(sliders)}
        words = {f"bound{i}": bound_word(slider.of) for i, slider in enumerate(sliders) if slider}
        figure = [
            self._pickers(place, reading, quantities, (x, y)),
            dcc.Graph(
                figure=blank_figure(HEIGHT), id="front-plot", config=GRAPH, style={"height": f"{HEIGHT}px"}
            ),
            replay_row(reading, whole_number(place.number("after"))),
            html.Div(id="front-replay", role="status"),
            html.P(CAPTION, className="caption"),
        ]
        aside = [
            html.Details(
                [html.Summary("What may it cost?"), *self._sliders(place, reading, sliders)], open=True
            ),
            html.Div(id="front-best", className="best", role="status"),
            html.Div(id="front-panel"),
        ]
        return [
            html.H1(study.name),
            html.P(study_line(reading), id="front-line"),
            html.Div(training_lines(training), id="front-training"),
            html.P("; ".join(map(str, study.plan.scenarios)), className="muted"),
            *map(html.P, reading.kept("verdicts", lambda: verdict_sentences(study))),
            html.Div([html.Div(figure, className="plane"), html.Aside(aside)], className="split"),
            html.Section([html.H2("Networks"), html.Div(id="front-rows")]),
            *modified_table(reading.kept("modified", lambda: modified_facts(study)), study.name),
            html.Section(
                [
                    html.H2("How the front grew"),
                    dcc.Graph(
                        figure=blank_figure(300), id="front-growth", config=GRAPH, style={"height": "300px"}
                    ),
                    html.P(id="front-grown", className="caption"),
                ]
            ),
            dcc.Store(id="front-study", data=key_of(study.record)),
            dcc.Store(id="front-trained", data=told(training)),
            dcc.Store(id="front-seen"),
            dcc.Store(id="front-found"),
            dcc.Store(id="front-pick", data=whole_number(place.number("pick"))),
            dcc.Store(id="front-chosen"),
            dcc.Store(id="front-bounds", data=[slider.plain if slider else None for slider in sliders]),
            self.usual({**usual, "@": words}),
            dcc.Interval(id="front-poll", interval=POLL_MS),
            dcc.Interval(id="front-pace", interval=PACE_MS),
        ]

    def _pickers(
        self, place: Place, reading: Reading, quantities: Sequence[Quantity], axes: tuple[str, str]
    ) -> Component:
        names, options = [of.name for of in quantities], options_of(quantities)
        over = [each for each in self.live.names() if each != reading.study.name]
        menus = [
            picker(label, f"front-{word}", options, place.one(word, names, usual))
            for label, word, usual in (("horizontal", "x", axes[0]), ("vertical", "y", axes[1]))
        ]
        menus += [
            picker(
                label,
                f"front-{word}",
                options,
                place.one(word, names) or None,
                clearable=True,
                placeholder="none",
            )
            for label, word in (("third axis", "z"), ("colour", "colour"), ("size", "size"))
        ]
        logs = [
            {"label": f"{name}", "value": axis} for name, axis in (("horizontal", "x"), ("vertical", "y"))
        ]
        menus.append(
            html.Label(
                [
                    html.Span("other than usual scale (linear or log)"),
                    dcc.Checklist(logs, place.some("log", ("x", "y")), id="front-log", inline=True),
                ]
            )
        )
        tables = [{"label": label, "value": word} for word, label in tables_for(reading).items()]
        table = place.one("table", [each["value"] for each in tables]) or None
        menus.append(
            picker(
                "latency from",
                "front-table",
                tables,
                table,
                clearable=True,
                placeholder="the search, and measured",
            )
        )
        studies = [{"label": name, "value": name} for name in over]
        menus.append(
            picker(
                "lay over it",
                "front-over",
                studies,
                place.some("over", over),
                multi=True,
                placeholder="other studies",
            )
        )
        return html.Div(menus, className="pickers")

    def _sliders(self, place: Place, reading: Reading, sliders: Sequence[Slider | None]) -> list[Component]:
        return [
            slider_row(slider, name, place.number(bound_word(slider.of)) if slider else None, reading.study)
            for slider, name in zip(sliders, BOUNDS, strict=True)
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
                "axes": [Input(f"front-{word}", "value") for word in ("x", "y", "z", "colour", "size")],
                "log": Input("front-log", "value"),
                "over": Input("front-over", "value"),
                "table": Input("front-table", "value"),
                "pick": Input("front-pick", "data"),
                "after": Input("front-after", "data"),
                "bounds": [Input(name, "value") for name in BOUNDS],
                "scheme": Input("scheme", "data"),
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
        scheme: Any = None,
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
            wanted = self._wanted(reading, [axes, log, over, table, pick, bounds, scheme], after)
            if isinstance(seen, dict) and all(seen.get(k) == v for k, v in wanted.items() if k != "points"):
                return nothing
            if not worth_drawing(seen, wanted):
                return no_update, study_line(reading), no_update, no_update, no_update
            view = replace(view_of(reading, axes, log, bounds_of(kept, bounds), pick), after=after)
            priced = self._priced(reading, table) if table else None
            facts = explore(
                reading,
                view,
                priced=priced,
                baselines=reading.kept("baselines", lambda: baseline_facts(reading.study, reading.measured)),
                overlays=self._overlays(over, reading),
            )
        except NasError as error:
            return no_update, f"gone: {error}", no_update, no_update, None
        figure = with_scheme(explorer_figure(facts, HEIGHT), wanted["scheme"])
        figure.update_layout(uirevision=f"{study}/{axes[:3]}")
        best = [*priced_line(priced), *best_line(reading, facts)]
        return figure, study_line(reading), best, replay_line(reading, facts), wanted

    def _priced(self, reading: Reading, table: Any) -> Rescored | None:
        """The networks by another table, kept: pricing two thousand of them takes a second."""
        key = (key_of(reading.study.record), reading.revision, str(table))
        if key not in self._kept:
            self._kept[key] = rescored(reading, str(table))
            while len(self._kept) > MOST_PRICED:
                self._kept.popitem(last=False)
        return self._kept[key]

    def _overlays(self, over: Any, reading: Reading) -> list[Reading]:
        names = [name for name in over if isinstance(name, str)] if isinstance(over, list) else []
        known = [name for name in dict.fromkeys(names) if name in self.live.names()]
        return [self.live.study(name) for name in known if name != reading.study.name]

    def _wanted(self, reading: Reading, asked: Any, after: int | None) -> dict[str, Any]:
        """What decides how the page looks, in few bytes: every poll sends it back."""
        members = [trial.number for trial in reading.members]
        scheme = asked[-1] if asked[-1] in SCHEMES else "light"
        return {
            "revision": reading.revision,
            "asked": zlib.crc32(repr([*asked, after]).encode()),
            "after": after,
            "last": last_number(reading),
            "members": zlib.crc32(repr(members).encode()),
            "measured": reading.last_measurement,
            "scheme": scheme,
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
            numbers = [n for n in chosen if type(n) is int][:MOST_CHOSEN] if isinstance(chosen, list) else []
            after = whole_number(after)
            note = (
                "Those inside the lasso."
                if numbers
                else "The front in all objectives. Drag a lasso to list others."
            )
            if after is not None and not numbers:
                numbers = members_after(reading, after)
                note = f"The front after trial {after:,}, with the numbers that are known now."
            now = after is None and not numbers
            trials = list(reading.members) if now else list(reading.whole(numbers).values())
            scheme = seen.get("scheme") if isinstance(seen, dict) else "light"
            grown = self._growths.of([reading, *self._overlays(over, reading)])
            figure = with_scheme(grown.figure(after), scheme if scheme in SCHEMES else "light")
            rows = network_rows(reading, trials, reading.objectives, note)
            if len(trials) > 1:
                few = len(trials) <= MOST_COMPARED
                text = "Compare them" if few else f"Compare the first {MOST_COMPARED}"
                rows.append(html.P(compare_link(reading, trials, text), className="more"))
            return rows, figure, grown.told
        except NasError as error:
            return [html.P(str(error))], no_update, no_update


CAPTION: list[Component | str] = [
    "Each point is an architecture: blue ones are on the ",
    term("front"),
    ", grey ones are ",
    term("beaten"),
    ". Bars and the band are ",
    term("±", "one standard error"),
    "; a grey ring, where there is one, marks the ",
    term("knee"),
    ". Hollow points are ",
    term("tied"),
    " with the next step, orange rings mark each ",
    term("finalist"),
    ", stars each ",
    term("baseline"),
    ". Click a point to see its network, drag to zoom, double-click to see all.",
]
