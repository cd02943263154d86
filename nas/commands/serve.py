"""The command that serves a network: serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.commands.groups import MODELS
from nas.commands.options import DraftLine, NetworkName, OfStudy, SourceFile, Store, TrustCode
from nas.commands.options_from_settings import Given, with_settings
from nas.commands.output import print_line, print_note
from nas.default_paths import DEFAULT_STORE
from nas.executors.node_settings import LOOPBACK
from nas.serving.settings import ServerSettings


def mount(app: typer.Typer) -> None:
    """Add this command."""
    app.command(rich_help_panel=MODELS)(serve)


@with_settings(ServerSettings)
def serve(
    network: NetworkName,
    trial: OfStudy = None,
    *,
    settings: Given,
    name: Annotated[
        str | None, typer.Option(help="Name of the model for clients.", show_default=False)
    ] = None,
    trust_code: TrustCode = False,
    draft: DraftLine = None,
    adapters: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER",
            help="An adapter of `nas adapt`, or a folder of some. Repeat it for several.",
            show_default=False,
        ),
    ] = None,
    space: SourceFile = None,
    store: Store = DEFAULT_STORE,
) -> None:
    """Serve a network by OpenAI's protocol: completions, streams, stop strings, log-probabilities.

    Requests are decoded together, joining and leaving the batch between any two steps. Only this machine
    can ask, unless --host says otherwise: there are no keys, so put something in front that checks them.
    SIGTERM and Ctrl-C let running requests end.

    With --adapters, requests that name one as their model are answered by the network with that adapter, in
    one batch with all others.

    With --draft, few requests are answered several tokens at a time, in the same words.

    Examples: nas serve winner --port 8000; nas serve winner --adapters prose --adapters code
    """
    from foundation.extras import require_extra
    from nas.progress import Terminal
    from nas.training.start import start_of

    require_extra("nas serve", "serve", "starlette", "uvicorn", "prometheus_client")
    from nas.serving.drafts.base import Draft
    from nas.serving.server import engine_of
    from nas.serving.server import serve as run

    chosen, proposing = ServerSettings(**settings), Draft.from_line(draft) if draft is not None else None
    start = start_of(network, trial, store=store, space=space, trust_code=trust_code, progress=Terminal())
    shown = name or (f"{network}/{trial}" if trial else Path(network).name.removeprefix("zoo:"))
    engine = engine_of(start, shown, chosen, proposing, adapters=adapters or [])
    if chosen.host not in (LOOPBACK, "localhost"):
        print_note(f"anybody who reaches {chosen.host} can ask: no keys are checked")
    run(engine, shown, chosen, lambda address: print_line(f"{shown} is served at {address}/v1"))
