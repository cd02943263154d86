"""What a page shows, as files for other programs and as a page of its own that works offline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash
import plotly.graph_objects as go
from dash import dcc, html
from dash.development.base_component import Component

from dashboards.facts.reading import Reading
from dashboards.facts.study import front_networks
from dashboards.report.pieces import networks_page, trials_csv, trials_json
from nas.study.trial import Trial

FILES = {
    "json": "genes and all numbers",
    "csv": "the numbers as a table",
    "html": "what is drawn, with its numbers, as a page that works offline",
}
"""Files of what is seen, with what they hold."""


def file_row(page: str) -> list[Component]:
    """A button for each file, and what hands it to the browser."""
    buttons = [html.Button(kind.upper(), id=f"{page}-{kind}", title=about) for kind, about in FILES.items()]
    return [html.Div(buttons, className="buttons"), dcc.Download(id=f"{page}-file")]


def kinds_of(page: str) -> dict[str, type]:
    """What the buttons of a page send."""
    return {f"{page}-{kind}.n_clicks": int for kind in FILES}


def asked_kind(page: str) -> str:
    """The file whose button was pressed."""
    kind = str(dash.ctx.triggered_id or "").removeprefix(f"{page}-")
    return kind if kind in FILES else ""


def text_file(text: str, name: str) -> dict[str, Any]:
    """A text as the browser saves it."""
    return {"content": text, "filename": name, "type": "text/plain", "base64": False}


def networks_file(
    kind: str, reading: Reading, trials: Sequence[Trial], drawn: go.Figure, caption: str, *, what: str
) -> dict[str, Any]:
    """Networks as one of the `FILES`; the page has the figure `drawn` above them."""
    name = f"{reading.study.name}-{what}.{kind}"
    if kind == "json":
        return text_file(trials_json(reading, trials), name)
    if kind == "csv":
        return text_file(trials_csv(reading, trials), name)
    lines = {trial.digest: reading.one_line(trial) for trial in trials}
    networks = front_networks(reading.study, trials, lines, reading.measured)
    title = f"{reading.study.name}: {what}"
    return text_file(networks_page(title, drawn, caption, networks, reading.objectives), name)
