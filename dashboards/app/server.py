"""The dashboard: pages over the studies of a store, which follow what is written there.

    make_app("studies/studies.db").run(port=8050)

It only reads the store, and pages load nothing from other hosts: scripts and styles are served from here.
`dashboards.pages` holds the pages, `dashboards.app.requests` says which requests are answered.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import dash
from dash import dcc, html
from flask import Flask

from dashboards.app.live_store import LiveStore
from dashboards.app.login import Door
from dashboards.app.requests import Names, protect
from dashboards.app.shell import Shell
from dashboards.pages.base import STUDY
from dashboards.style.app_css import app_css
from nas.store import Store


def make_app(
    store_url: str | Path,
    *,
    host: str = "127.0.0.1",
    allow_hosts: Collection[str] = (),
    password: str | None = None,
) -> dash.Dash:
    """The dashboard over a store, under the names of this machine, of `host`, and those in `allow_hosts`.

    With a `password`, only who knows it sees anything.

    Raises:
        StoreError: there is no such store, or it cannot be read.
    """
    shell = Shell(LiveStore(Store(store_url, read_only=True)), locked=password is not None)
    shell.live.all()  # large studies are read while the browser is still starting
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
    app.layout = html.Main([dcc.Location(id="where"), dcc.Store(id="look"), html.Div(id="page")])
    shell.connect(app)
    words = [page.name for page in shell.pages.values() if not page.of_study]
    door = Door(password) if password is not None else None
    protect(app, server, Names(host, allow_hosts), kinds=shell.kinds(), places=[STUDY, *words], door=door)
    return app
