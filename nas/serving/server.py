"""A network behind a port: from its name to a server that runs until it is stopped."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import fields

import torch
import uvicorn

from evaluators.tokens.speech import tokenizer_of
from evaluators.tokens.vocabulary import BYTES, ByteVocabulary, Vocabulary
from foundation.errors import SettingError
from foundation.wording import argument
from nas.serving.adapters.folders import adapters_in
from nas.serving.app import App
from nas.serving.drafts.base import Draft
from nas.serving.engine import Engine
from nas.serving.settings import EngineSettings, ServerSettings
from nas.serving.worker import FAULT, Worker
from nas.signals import note_server
from nas.training.start import Start
from search_spaces.devices import require_here


def engine_of(
    start: Start,
    name: str,
    settings: ServerSettings,
    draft: Draft | None = None,
    *,
    adapters: Sequence[str] = (),
) -> Engine:
    """The engine of a network, its vocabulary, and the adapters in these folders.

    Raises:
        SettingError: its tokens have no meaning, the memory cannot hold a text or an adapter, or the draft or
            an adapter is none for it; the device is not here.
    """
    require_here(settings.device)
    vocabulary, known = _vocabulary(start, name), adapters_in(adapters, start.model, name)
    own = {each.name: getattr(settings, each.name) for each in fields(EngineSettings)}
    model, ends = start.model.eval(), sorted(vocabulary.ends)
    model.to(settings.device, getattr(torch, settings.dtype))
    return Engine(model, EngineSettings(**own), vocabulary, ends=ends, draft=draft, adapters=known)


def serve(engine: Engine, name: str, settings: ServerSettings, announce: Callable[[str], None]) -> None:
    """Answer requests until a signal comes: running ones then have some seconds to end.

    `announce` is told the address as soon as it listens.

    Raises:
        SettingError: the address cannot be used, or the engine has failed.
    """
    assert engine.vocabulary is not None
    listening = _listening(settings.host, settings.port)
    server: uvicorn.Server
    failed: list[bool] = []

    def died() -> None:
        failed.append(True)
        server.should_exit = True

    app = App(Worker(engine, died), name, engine.vocabulary).starlette(settings.host)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.grace,
    )
    server = uvicorn.Server(config)
    host, port = listening.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    note_server(address)
    announce(address)
    with listening:
        server.run(sockets=[listening])
    if failed:
        raise SettingError(FAULT)


def _vocabulary(start: Start, name: str) -> Vocabulary:
    if start.tokenizer is not None:
        return tokenizer_of(start.tokenizer, f"the tokenizer of {name}", start.model.spec.vocab)
    if start.model.spec.vocab != BYTES:
        raise SettingError(
            f"{name} has {start.model.spec.vocab:,} tokens and no tokenizer: only a model of {BYTES} bytes,"
            " or one with a tokenizer.json, writes text"
        )
    return ByteVocabulary()


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise SettingError(
            f"cannot listen at {argument('host', host)}, {argument('port', port)}: {why}"
        ) from None
    return listening
