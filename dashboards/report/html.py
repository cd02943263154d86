"""HTML elements that escape their text: strings are escaped when they become children, elements are not.

p("studies named ", code(name))         # safe, whatever `name` holds
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TypeAlias

import plotly.graph_objects as go

from dashboards.figures.drawing import LEAST_WIDTH
from dashboards.style.css import report_css
from dashboards.style.theme import SCHEMES, template

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; worker-src blob:;"
    " script-src 'unsafe-inline' 'unsafe-eval'"
)
"""The page may not load anything; Plotly compiles drawing functions of WebGL traces, hence `unsafe-eval`."""


class Html(str):
    """Text that is already HTML."""

    __slots__ = ()


Child: TypeAlias = "str | Html | None"


def text(child: Child) -> Html:
    """A child as HTML: escaped unless it is HTML already."""
    if child is None:
        return Html("")
    return child if isinstance(child, Html) else Html(escape(child))


def joined(children: Iterable[Child]) -> Html:
    """Children one after the other."""
    return Html("".join(map(text, children)))


def tag(name: str, *children: Child, kind: str = "", title: str = "", label: str = "", span: int = 0) -> Html:
    """An element; `kind` is its class, `label` what a cell is called where its row is shown as a list."""
    attributes = f' class="{escape(kind)}"' if kind else ""
    attributes += f' title="{escape(title)}"' if title else ""
    attributes += f' data-label="{escape(label)}"' if label else ""
    attributes += f' colspan="{span}"' if span else ""
    return Html(f"<{name}{attributes}>{joined(children)}</{name}>")


def p(*children: Child, kind: str = "") -> Html:
    """A paragraph."""
    return tag("p", *children, kind=kind)


def code(content: str) -> Html:
    """Inline code; an option is not broken across lines."""
    return tag("code", content, kind="option" if content.startswith("-") else "")


WITH_A_MOUSE = tag("span", " Drag to zoom, double-click to reset.", kind="mouse")
"""What may be done with a figure where there is a mouse; elsewhere the style sheet hides it."""


def section(title: str, *children: Child) -> Html:
    """A section of the page under its heading."""
    return tag("section", tag("h2", title), *children)


def table(head: Html, rows: Iterable[Html], kind: str = "") -> Html:
    """A table that scrolls by itself where the page is narrow."""
    body = tag("table", tag("thead", head), tag("tbody", *rows))
    return tag("div", body, kind=f"scroll {kind}".strip())


def row(cells: Sequence[Child], *, header: bool = False) -> Html:
    """A row of cells; the first is the row's name, numbers are aligned by the style sheet."""
    return tag("tr", *(tag("th" if header else "td", cell) for cell in cells))


def fact_list(rows: Mapping[str, Child]) -> Html:
    """Names and values, in as many columns as fit the page."""
    cells = (tag("div", tag("dt", name), tag("dd", value)) for name, value in rows.items())
    return Html(f'<dl class="facts">{joined(cells)}</dl>')


def commands(about: Mapping[str, str]) -> Html:
    """Shell commands, each under what it does."""
    rows = (joined([tag("dt", does), tag("dd", code(command))]) for does, command in about.items())
    return tag("dl", *rows, kind="commands")


def folded(title: str, *children: Child, unfolded: bool = False) -> Html:
    """Content that a reader unfolds."""
    opened = " open" if unfolded else ""
    return Html(f"<details{opened}>{tag('summary', title)}{joined(children)}</details>")


def figure(drawn: go.Figure, caption: Child = None) -> Html:
    """A figure with its caption; the script at the end of the page draws it from the JSON beside it.

    A figure that needs a width (`LEAST_WIDTH`) keeps it, and is scrolled where the page is narrower.
    """
    plain = json.loads(drawn.to_json())
    plain["layout"].pop("template", None)
    height = int(plain["layout"].get("height", 400))
    least = int(plain["layout"].get("meta", {}).get(LEAST_WIDTH, 0))
    holder = Html(f'<div class="plot" style="height:{height}px;min-width:{least}px"></div>')
    data = Html(f'<script type="application/json">{script_json(plain)}</script>')
    drawing = tag("div", holder, data, kind="scroll")
    return tag("figure", drawing, tag("figcaption", caption) if caption else None)


def script_json(plain: object) -> str:
    """JSON that cannot close the script element around it."""
    return json.dumps(plain, separators=(",", ":")).replace("<", "\\u003c")


def document(title: str, body: Html, plotly_js: str) -> str:
    """A whole page with its style sheet, scripts and data inside."""
    schemes = {name: template(scheme).to_plotly_json() for name, scheme in SCHEMES.items()}
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{report_css()}</style></head>\n<body>{body}"
        f"<script>{plotly_js}</script>\n<script>const schemes={script_json(schemes)};{DRAW}</script>"
        "</body></html>\n"
    )


DRAW = """
const night = matchMedia("(prefers-color-scheme: dark)");
const plots = [...document.querySelectorAll(".plot")].map(
  (place) => ({place, ...JSON.parse(place.nextElementSibling.textContent)}));
const settings = {responsive: true, displayModeBar: false};
function draw(scheme) {
  for (const {place, data, layout} of plots)
    Plotly.react(place, data, {...layout, template: schemes[scheme], autosize: true}, settings);
}
const current = () => (night.matches ? "dark" : "light");
draw(current());
night.addEventListener("change", () => draw(current()));
addEventListener("beforeprint", () => {
  draw("light");
  for (const more of document.querySelectorAll("details")) more.open = true;
});
addEventListener("afterprint", () => draw(current()));
"""
