"""The dashboard: a page that lists the studies of a store, and one that follows a study's front.

    make_app("studies/studies.db").run(port=8050)

It only reads the store, and pages load nothing from other hosts: scripts and styles are served from here.
`dashboards.app.requests` says which requests are answered.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote

import dash
from dash import Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component
from flask import Flask

from dashboards.app.live import LiveStudy
from dashboards.app.live_store import LiveStore, key_of
from dashboards.app.panels import first_panel, network_panel, studies_table, study_line
from dashboards.app.requests import Names, protect
from dashboards.facts.baselines import verdict_sentences
from dashboards.facts.quantities import Quantity
from dashboards.figures.front import front_figure
from dashboards.style.css import app_css
from dashboards.style.theme import SCHEMES, with_scheme
from foundation.errors import NasError, StoreError, UnknownName
from nas.store import Store

POLL_MS = 2000
LIST_POLL_MS = 5000
MANY_POINTS = 5000
"""A figure of more points is sent again only when its front changed or it grew by 5 %."""

Seen: TypeAlias = "dict[str, Any] | None"


class Pages:
    """The callbacks, as plain methods; a browser sends back the state that it shows."""

    def __init__(self, store: Store) -> None:
        self.live = LiveStore(store)

    def page(self, path: str | None) -> Component:
        """The page at a path; where there is no such study, or no store any more, it says so."""
        place = unquote(path or "/").strip("/")
        if not place.startswith("study/"):
            return self._studies()
        try:
            return study_page(self.live.study(place.removeprefix("study/")))
        except NasError as error:
            title = "Unknown study" if isinstance(error, UnknownName) else "The study cannot be read"
            return html.Div([html.H1(title), html.P(str(error)), dcc.Link("all studies", href="/")])

    def studies(self, seen: Any) -> tuple[Any, Any]:
        """The list of studies and its state; no update where nothing changed."""
        try:
            studies = self.live.all()
        except StoreError as error:
            return html.P(str(error)), None
        unreadable = [str(study) for study in self.live.unreadable]
        state = [[live.study.record.id, live.revision, live.state()] for live in studies] + unreadable
        if state == seen:
            return no_update, no_update
        return studies_table([live.summary() for live in studies], unreadable), state

    def front(
        self, study: str | None, axes: tuple[str | None, str | None], scheme: str | None, seen: Seen
    ) -> tuple[Any, Any, Any]:
        """The figure, the line about the study, and the state shown; no update where nothing changed.

        Of a study that was deleted meanwhile the line says so.
        """
        if study is None or not all(axes):
            return no_update, no_update, no_update
        try:
            live = self.live.by_key(study)
        except NasError as error:
            return no_update, f"gone: {error}", None
        revision = live.revision
        shown_scheme = scheme if scheme in SCHEMES else "light"
        measured = len(live.study.measurements())
        wanted: dict[str, Any] = {
            "revision": revision,
            "axes": list(axes),
            "scheme": shown_scheme,
            "measured": measured,
        }
        if seen and all(seen.get(key) == wanted[key] for key in wanted):
            return no_update, no_update, no_update
        members = [trial.number for trial in live.members]
        wanted |= {"points": live.scored, "members": members, "at": time.time()}
        if seen and not worth_drawing(seen, wanted):
            return no_update, study_line(live), no_update
        x, y = str(axes[0]), str(axes[1])
        figure = with_scheme(front_figure(live.front(x, y), height=560), wanted["scheme"])
        figure.update_layout(uirevision=f"{study}/{x}/{y}", clickmode="event")
        return figure, study_line(live), wanted

    def picked(self, study: str | None, click: dict[str, Any] | None) -> Any:
        """The panel for the point that was clicked."""
        number = clicked_number(click)
        if study is None or number is None:
            return no_update
        try:
            live = self.live.by_key(study)
            trial = live.trial(number)
            return network_panel(live, trial) if trial else no_update
        except NasError as error:
            return html.P(str(error))

    def _studies(self) -> Component:
        table, state = self.studies(None)
        return html.Div(
            [
                html.H1("Studies"),
                html.Div(table, id="studies"),
                dcc.Store(id="studies-seen", data=state),
                dcc.Interval(id="studies-poll", interval=LIST_POLL_MS),
            ]
        )


def worth_drawing(seen: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a figure has changed enough to be sent again."""
    if wanted["points"] < MANY_POINTS or any(
        seen.get(key) != wanted[key] for key in ("axes", "scheme", "members", "measured")
    ):
        return True
    shown = seen.get("points", 0)
    return not isinstance(shown, int) or bool(wanted["points"] > 1.05 * shown)


def clicked_number(click: dict[str, Any] | None) -> int | None:
    """The trial's number in Plotly's click data; None where the point is no trial."""
    points = (click or {}).get("points")
    point = points[0] if isinstance(points, list) and points else None
    number = point.get("customdata") if isinstance(point, dict) else None
    number = number[0] if isinstance(number, list) and number else number
    return number if isinstance(number, int) and not isinstance(number, bool) else None


def study_page(live: LiveStudy) -> Component:
    """The page of one study, before its figure is drawn."""
    return html.Div(
        [
            html.Div(dcc.Link("all studies", href="/"), className="kicker"),
            html.H1(live.study.name),
            html.P(study_line(live), id="line"),
            html.P("; ".join(map(str, live.study.plan.scenarios)), className="muted"),
            *map(html.P, verdict_sentences(live.study)),
            html.Div([_plane(live), html.Aside(first_panel(live), id="panel")], className="split"),
            dcc.Store(id="study", data=key_of(live.study.record)),
            dcc.Store(id="seen"),
            dcc.Interval(id="poll", interval=POLL_MS),
        ]
    )


def _plane(live: LiveStudy) -> Component:
    """The figure of the front, below the menus of its axes."""
    options = [{"label": quantity.label, "value": quantity.name} for quantity in live.quantities()]
    x, y = first_axes(live.objectives)
    menus = [
        html.Label([label, dcc.Dropdown(options, name, id=axis, clearable=False, searchable=False)])
        for label, name, axis in (("horizontal", x, "x"), ("vertical", y, "y"))
    ]
    graph = dcc.Graph(id="front", config={"displayModeBar": False})
    return html.Div([html.Div(menus, className="pickers"), graph], className="plane")


def first_axes(objectives: Sequence[Quantity]) -> tuple[str, str]:
    """The names of the first two objectives, quality on the vertical axis."""
    first, second = [*objectives, *objectives][:2]
    return (second.name, first.name) if first.scored else (first.name, second.name)


def make_app(
    store_url: str | Path, *, host: str = "127.0.0.1", allow_hosts: Collection[str] = ()
) -> dash.Dash:
    """The dashboard over a store, under the names of this machine, of `host`, and those in `allow_hosts`.

    Raises:
        StoreError: there is no such store, or it cannot be read.
    """
    pages = Pages(Store(store_url, read_only=True))
    pages.live.all()  # large studies are read while the browser is still starting
    server = Flask("nas", static_folder=None)
    app = dash.Dash(
        "nas",
        server=server,  # type: ignore[arg-type]  # Dash takes a Flask and declares less
        title="nas",
        update_title="",
        suppress_callback_exceptions=True,
        serve_locally=True,
        assets_folder="",
    )
    app.index_string = app.index_string.replace("{%css%}", f"{{%css%}}<style>{app_css()}</style>")
    app.layout = html.Main([dcc.Location(id="where"), dcc.Store(id="scheme"), html.Div(id="page")])
    _connect(app, pages)
    protect(app, server, Names(host, allow_hosts))
    return app


def _connect(app: dash.Dash, pages: Pages) -> None:
    app.callback(Output("page", "children"), Input("where", "pathname"))(pages.page)
    app.clientside_callback(
        "() => matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'",
        Output("scheme", "data"),
        Input("where", "pathname"),
    )
    app.callback(
        Output("studies", "children"),
        Output("studies-seen", "data"),
        Input("studies-poll", "n_intervals"),
        State("studies-seen", "data"),
        prevent_initial_call=True,
    )(lambda ticks, seen: pages.studies(seen))
    app.callback(
        Output("front", "figure"),
        Output("line", "children"),
        Output("seen", "data"),
        Input("poll", "n_intervals"),
        Input("x", "value"),
        Input("y", "value"),
        Input("scheme", "data"),
        State("study", "data"),
        State("seen", "data"),
    )(lambda ticks, x, y, scheme, study, seen: pages.front(study, (x, y), scheme, seen))
    app.callback(
        Output("panel", "children"),
        Input("front", "clickData"),
        State("study", "data"),
        prevent_initial_call=True,
    )(lambda click, study: pages.picked(study, click))
