"""What stands around every page: where a reader is, the tabs of a study, and the address kept in step."""

from __future__ import annotations

import json

import dash
from dash import Input, Output, State, dcc, html
from dash.development.base_component import Component

from dashboards.app.live_store import LiveStore
from dashboards.app.login import LOGOUT
from dashboards.app.look import NARROW
from dashboards.pages import Page, Place, address, pages
from dashboards.style.app_css import PHONE_WIDTH
from foundation.errors import NasError, UnknownName

FIRST = "front"
"""The page of a study without another word behind its name."""

ALL = "studies"
"""The page of an address without any word."""

LOOK = f"""
() => {{
  const night = matchMedia("(prefers-color-scheme: dark)");
  const phone = matchMedia("(max-width: {PHONE_WIDTH}px)");
  const look = () => (night.matches ? "dark" : "light") + (phone.matches ? " {NARROW}" : "");
  if (!window.followsLook) {{
    window.followsLook = true;
    for (const each of [night, phone])
      each.addEventListener("change", () => dash_clientside.set_props("look", {{data: look()}}));
  }}
  return look();
}}
"""

ENTER = """
() => {
  if (window.enterApplies) return;
  window.enterApplies = true;
  document.addEventListener("keydown", (key) => {
    if (key.key === "Enter" && key.target.matches?.("input[type=number]")) key.target.blur();
  });
}
"""
"""The number beside a slider is taken when its box is left: Enter leaves it."""

TITLE = """
(path) => {
  const words = (path || "").split("/").filter(Boolean);
  document.title = [...(words[0] === "study" ? words.slice(1) : words), "nas"].join(" \u00b7 ");
}
"""
"""The title says what is shown, so that tabs of a browser can be told apart."""

IN_ADDRESS = """
(...values) => {
  const usual = values.pop() || {}, words = %s, asked = new URLSearchParams();
  words.forEach((word, i) => {
    const value = values[i], plain = JSON.stringify(value ?? null);
    if (value == null || value === "" || plain === JSON.stringify(usual[word] ?? null)) return;
    for (const each of [value].flat()) asked.append((usual["@"] || {})[word] || word, each);
  });
  const text = asked.toString();
  history.replaceState(history.state, "", location.pathname + (text ? "?" + text : ""));
}
"""
"""Writes what differs from the usual into the address, as the reader sets it.

Under "@" the usual has other words for some controls: those that hold another thing in every study.
"""


class Shell:
    """All pages, and which is shown at an address; `locked` ones need a password, and may be left."""

    def __init__(self, live: LiveStore, *, locked: bool = False) -> None:
        self.live, self.locked = live, locked
        made: list[Page] = [kind(live) for kind in pages.values()]
        self.pages = {page.name: page for page in sorted(made, key=lambda page: page.rank)}

    def page(self, path: str | None, search: str | None = "") -> Component:
        """The page at an address; where there is none, or it cannot be shown, it says so."""
        place = Place.read(path, search)
        page = self.pages.get(place.page or (FIRST if place.study else ALL))
        try:
            if page is None or page.of_study != bool(place.study):
                raise UnknownName(f"there is no page {path!r}")
            shown = page.layout(place)
        except NasError as error:
            title = "There is no such page" if isinstance(error, UnknownName) else "This cannot be shown"
            shown = [html.H1(title), html.P(str(error)), dcc.Link("all studies", href=address())]
        return html.Div([self._top(place, page), html.Div(shown)])

    def _top(self, place: Place, page: Page | None) -> Component:
        tabs = [each for each in self.pages.values() if each.of_study == bool(place.study)]
        links = [
            dcc.Link(
                each.title,
                href=address("" if each.name in (FIRST, ALL) else each.name, place.study),
                className="here" if each is page else "",
            )
            for each in (tabs if place.study else [])
        ]
        where = [dcc.Link("studies", href=address()), *([html.Span(place.study)] if place.study else [])]
        parts: list[Component] = [html.Div(where, className="crumbs"), html.Div(links, className="tabs")]
        if self.locked:
            parts.append(html.Form(html.Button("log out"), action=LOGOUT, method="post", className="leave"))
        return html.Nav(parts, className="top")

    def kinds(self) -> dict[str, type]:
        """What callbacks may send, by component and property."""
        kinds: dict[str, type] = {"where.pathname": str, "where.search": str, "look.data": str}
        for page in self.pages.values():
            kinds |= page.kinds()
        return kinds

    def connect(self, app: dash.Dash) -> None:
        """Add the callbacks of the shell and of all pages."""
        app.callback(Output("page", "children"), Input("where", "pathname"), State("where", "search"))(
            self.page
        )
        app.clientside_callback(LOOK, Output("look", "data"), Input("where", "pathname"))
        for script in (ENTER, TITLE):
            app.clientside_callback(script, Input("where", "pathname"))
        for page in self.pages.values():
            page.connect(app)
            if page.linked:
                words = json.dumps(list(page.linked))
                inputs = [Input(*_split(control.of)) for control in page.linked.values()]
                app.clientside_callback(IN_ADDRESS % words, *inputs, State(page.usual_id, "data"))


def _split(of: str) -> tuple[str, str]:
    """The id and the property of a control."""
    name, _, held = of.partition(".")
    return name, held
