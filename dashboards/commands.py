"""Commands that this layer offers to `nas`: report and dashboard."""

from __future__ import annotations

import ipaddress
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from nas.commands.options import Store, StudyName
from nas.commands.running import DEFAULT_STORE
from search_spaces.errors import SettingError

# dash and plotly take seconds to import, and `nas` imports this module at every start: so they wait inside


def report(
    study: StudyName,
    store: Store = DEFAULT_STORE,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The HTML file to write.", show_default="report.html in the study's folder"
        ),
    ] = None,
) -> None:
    """Write a study's report: one HTML file that works offline and prints."""
    from dashboards.report import write_report
    from nas.study import open_study

    sys.stdout.write(f"{write_report(open_study(study, store), output)}\n")


def dashboard(
    store: Store = DEFAULT_STORE,
    host: Annotated[
        str, typer.Option(help="Where to listen; the default is this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen at.")] = 8050,
) -> None:
    """Look at studies in a browser, live; nothing is ever written."""
    from dashboards.app import make_app

    app = make_app(store)
    check_port(host, port)
    if not loopback(host):
        sys.stderr.write(
            f"warning: {host} is not this machine alone: whoever reaches port {port} can read every study of"
            f" {store}, without a password\n"
        )
    shown = f"[{host}]" if ":" in host else host
    sys.stdout.write(f"http://{shown}:{port}/  (stop with Ctrl-C)\n")
    sys.stdout.flush()
    serve(app, host, port)


def serve(app: object, host: str, port: int) -> None:
    """Answer requests until interrupted, without a line of log for each."""
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    from werkzeug.serving import run_simple

    run_simple(host, port, app.server, threaded=True)  # type: ignore[attr-defined]


def loopback(host: str) -> bool:
    """Whether only this machine can connect to `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_port(host: str, port: int) -> None:
    """Refuse an address that cannot be listened at, before the server has a word.

    Raises:
        SettingError: the port is taken or forbidden, or the host is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise SettingError(
            f"cannot listen at {host}:{port}: {error.strerror}; try --port {port + 1}"
        ) from error
