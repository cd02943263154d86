"""The control that replays how a front grew: a slider over the trials, and a button that moves it."""

from __future__ import annotations

import dash
from dash import Input, Output, State, dcc, html
from dash.development.base_component import Component

from dashboards.facts.explore import ExploreFacts
from dashboards.facts.reading import Reading
from dashboards.facts.replay import last_number
from foundation.text import count

PLAY_MS = 350
"""Time between two pictures, at least: the next one is asked for when the one before is there."""

PICTURES = 40
"""Of one replay from the first to the last trial."""

CHOSEN = """
(value, max, known) => {
  const after = value == null || value >= max ? null : value;
  return after === (known ?? null) ? dash_clientside.no_update : after;
}
"""
"""What the slider says: nothing at its right end, which is where the study is now."""

GROWN = """
(seen, value, max) => {
  const last = seen?.last;
  if (!Number.isInteger(last) || last === max) return [dash_clientside.no_update, dash_clientside.no_update];
  return [last, value >= max ? last : dash_clientside.no_update];
}
"""
"""New trials move the right end, and the slider with it if it stood there."""

NEXT = f"""
(clicks, ticks, value, max, seen, still) => {{
  const stay = dash_clientside.no_update, pressed = dash_clientside.callback_context.triggered
    .some(each => each.prop_id === "front-play.n_clicks");
  if (pressed && still) return [value >= max ? 0 : value, false, "Pause"];
  if (pressed) return [stay, true, "Play"];
  if ((seen?.after ?? max) !== value) return [stay, stay, stay];
  const next = Math.min(max, value + Math.max(1, Math.ceil(max / {PICTURES})));
  return [next, next >= max, next >= max ? "Play" : "Pause"];
}}
"""


def replay_row(reading: Reading, after: int | None) -> Component:
    """The slider where a link says it stands, else at its right end."""
    last = max(1, last_number(reading))
    slider = dcc.Slider(
        0,
        last,
        step=1,
        value=last if after is None else max(0, min(after, last)),
        marks=None,
        id="front-time",
        updatemode="mouseup",
    )
    return html.Div(
        [
            html.Button("Play", id="front-play", title="show how the front grew, trial by trial"),
            html.Div([html.Span("after trial", id="front-time-name"), slider]),
            dcc.Interval(id="front-ticks", interval=PLAY_MS, disabled=True),
            dcc.Store(id="front-after", data=after),
        ],
        className="replay",
    )


def connect_replay(app: dash.Dash) -> None:
    """All of it moves in the browser; the server hears which trial is asked for."""
    app.clientside_callback(
        CHOSEN,
        Output("front-after", "data"),
        Input("front-time", "value"),
        State("front-time", "max"),
        State("front-after", "data"),
        prevent_initial_call=True,
    )
    app.clientside_callback(
        GROWN,
        Output("front-time", "max"),
        Output("front-time", "value"),
        Input("front-seen", "data"),
        State("front-time", "value"),
        State("front-time", "max"),
        prevent_initial_call=True,
    )
    app.clientside_callback(
        NEXT,
        Output("front-time", "value", allow_duplicate=True),
        Output("front-ticks", "disabled"),
        Output("front-play", "children"),
        Input("front-play", "n_clicks"),
        Input("front-ticks", "n_intervals"),
        State("front-time", "value"),
        State("front-time", "max"),
        State("front-seen", "data"),
        State("front-ticks", "disabled"),
        prevent_initial_call=True,
    )


def replay_line(reading: Reading, facts: ExploreFacts) -> list[Component]:
    """What is looked at, where it is not the study as it is now."""
    after = facts.view.after
    if after is None:
        return []
    text = (
        f"After trial {after:,} of {last_number(reading):,}: {count(facts.known, 'network')} scored,"
        f" {facts.on_front:,} of them on the front in all objectives. The dotted line is the front after all"
        " trials. Numbers are those that the search had; what was measured later is left out."
    )
    return [html.P(text, className="caption")]
