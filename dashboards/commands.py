"""Commands that this layer offers to `nas`: report, compare and dashboard."""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from foundation.errors import SettingError
from foundation.settings import Settings, setting
from nas.commands.options import PATH, Json, Store, StudyName
from nas.commands.options_from_settings import Given, with_settings
from nas.commands.output import cell, output_console, print_json, print_line, print_note
from nas.default_paths import DEFAULT_STORE
from nas.signals import note_server

if TYPE_CHECKING:
    from dashboards.facts import ComparisonFacts

SILENT_SECONDS = 30
"""A connection that says nothing for so long is closed: it holds a thread."""

# every `nas` command imports this module, and dash and plotly take seconds: functions import them


def report(
    study: StudyName,
    store: Store = DEFAULT_STORE,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The HTML file to write.",
            show_default="report.html in the study's folder",
            **PATH,
        ),
    ] = None,
) -> None:
    """Write a study's report: one HTML file that works offline and prints.

    Exit code 1 where nothing was scored, which the report then says.
    """
    from dashboards.report.study import write_report
    from nas.study.study import open_study
    from nas.study.tally import require_scored

    opened = open_study(study, store)
    print_line(str(write_report(opened, output)))
    require_scored(opened)


def compare(
    studies: Annotated[
        list[str],
        typer.Argument(help="Names of two to six studies; `nas ls` lists them.", show_default=False),
    ],
    as_json: Json = False,
    store: Store = DEFAULT_STORE,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The HTML file to write.",
            show_default="compare.html beside the studies' folders",
            **PATH,
        ),
    ] = None,
) -> None:
    """Compare the fronts of several studies: a table here, and one HTML file.

    The studies must have the same objectives, scored in the same way.

    Example: nas compare by-ofa by-exact by-random
    """
    from dashboards.report.comparison import write_comparison
    from nas.store import Store as Opened
    from nas.study.study import Study

    with Opened(store, read_only=True) as opened:
        path, facts = write_comparison([Study(opened, opened.study(name)) for name in studies], output)
    if as_json:
        print_json({**facts.to_json(), "page": str(path)})
        return
    for note in facts.notes:
        print_note(f"note: {note}")
    print_comparison(facts)
    print_line(str(path))


def print_comparison(facts: ComparisonFacts) -> None:
    """Shares and counts of each study, as a table on standard output."""
    from foundation.text import percent, significant

    equal = f"share after {facts.fewest:,}"
    table = Table("study", "engine", box=None, pad_edge=False)
    counts = (
        "scored",
        "front",
        "hypervolume",
        "share",
        *([equal] if facts.uneven else []),
        "joint",
        "only here",
    )
    for name in counts:
        table.add_column(name, justify="right")
    for compared in facts.studies:
        shares = [percent(compared.share, compared.error)]
        shares += [percent(compared.share_at(facts.fewest))] if facts.uneven else []
        numbers = (
            f"{compared.study.distinct:,}",
            f"{len(compared.front):,}",
            significant(compared.volume, 4),
        )
        table.add_row(
            *map(cell, (compared.study.name, compared.engine, *numbers, *shares)),
            f"{compared.joint:,}",
            f"{compared.exclusive:,}",
        )
    output_console().print(table)
    named = zip(facts.objectives, facts.reference, strict=True)
    reference = ", ".join(f"{objective.name} {objective.text(value)}" for objective, value in named)
    print_line(f"{len(facts.joint):,} on the joint front; hypervolume below {reference}, costs in logarithms")


@dataclass(frozen=True, kw_only=True)
class Listening(Settings):
    """Where the dashboard answers."""

    host: str = setting("127.0.0.1", help="Address to listen on; the default accepts this machine only.")
    port: int = setting(8050, help="Port to listen on.", least=1, most=65535)
    allow_host: tuple[str, ...] = setting(
        (),
        help="A further name under which browsers may ask for the dashboard.",
        metavar="NAME",
        repeated=True,
        shown="this machine's and that of --host",
    )


@with_settings(Listening)
def dashboard(
    *,
    settings: Given,
    store: Store = DEFAULT_STORE,
    password_file: Annotated[
        Path | None,
        typer.Option(
            help="A file whose first line is the password; needed for a --host that other machines reach.",
            show_default=False,
            **PATH,
        ),
    ] = None,
) -> None:
    """Browse studies live in a web browser; the store is only read."""
    listening = Listening(**settings)
    host, port = listening.host, listening.port
    address = check_address(host, port)
    local = ipaddress.ip_address(address).is_loopback
    password = password_of(password_file, host, local=local)
    from dashboards.app.server import make_app

    app = make_app(store, host=host, allow_hosts=listening.allow_host, password=password)
    if not local:
        sys.stderr.write(
            f"warning: {host} accepts other machines: the password and the pages reach them unencrypted,"
            " unless a proxy with TLS or a tunnel (ssh -L) stands between\n"
        )
    shown = f"[{host}]" if ":" in host else host
    sys.stdout.write(f"http://{shown}:{port}/  (stop with Ctrl-C)\n")
    sys.stdout.flush()
    serve(app, host, port)


def password_of(path: Path | None, host: str, *, local: bool) -> str | None:
    """The password that pages ask for; None for those of this machine only, where none was given.

    Raises:
        SettingError: other machines reach the pages and there is no password, or it is too short.
        FileError: its file cannot be read.
    """
    if path is None:
        if not local:
            raise SettingError(
                f"--host {host} lets other machines read every study: give --password-file FILE,"
                " with a password in its first line, or listen on 127.0.0.1"
            )
        return None
    from dashboards.app.login import read_password

    password, others = read_password(path)
    if others:
        sys.stderr.write(f"warning: other users can read {path}: chmod 600 {path}\n")
    return password


def serve(app: object, host: str, port: int) -> None:
    """Answer requests until interrupted, without logging each."""
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    from werkzeug.serving import WSGIRequestHandler, run_simple

    note_server(f"{host}:{port}")

    class Handler(WSGIRequestHandler):
        timeout = SILENT_SECONDS
        server_version, sys_version = "nas", ""

    run_simple(host, port, app.server, threaded=True, request_handler=Handler)  # type: ignore[attr-defined]


def check_address(host: str, port: int) -> str:
    """Refuse what the server could not listen on; the address that `host` means.

    Raises:
        SettingError: the port is in use or forbidden, or the host is not an address of this machine.
    """
    try:
        if not host:
            raise ValueError
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, ValueError):  # a ValueError where it could never be a name
        raise SettingError(f"--host must be an address or a name of this machine, not {host!r}") from None
    family, kind, protocol, _, address = found
    try:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        hint = f"; try --port {min(port + 1, 65535)}" if error.errno != errno.EADDRNOTAVAIL else ""
        raise SettingError(f"cannot listen on {host}:{port}: {error.strerror}{hint}") from error
    return str(address[0])
