"""The signals that stop a process in good order, and the exit codes that tell of them."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` without enums: a tenth of the fastest trials
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPED = 128
"""Exit code of a process that was stopped, less the number of the signal."""

STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals by which a process is asked to stop; a second one stops it at once."""


_servers: list[str] = []


def is_server() -> bool:
    """Whether this process answers others: it saves nothing that could be spoken of at its end."""
    return bool(_servers)


def note_server(address: str) -> None:
    """This process answers others from here on."""
    _servers.append(address)


@contextmanager
def watched_signals() -> Iterator[list[int]]:
    """The signals whose handlers raised in this time, so that what they raised is known for theirs."""
    received: list[int] = []
    ours: dict[int, tuple[Any, Any]] = {}
    if threading.current_thread() is threading.main_thread():
        for number in STOPS:
            handler = _signal.getsignal(number)
            if callable(handler):
                ours[number] = handler, _watching(handler, received)
                _signal.signal(number, ours[number][1])
    try:
        yield received
    finally:
        for number, (handler, watching) in ours.items():
            if _signal.getsignal(number) is watching:  # a handler may have set another one
                _signal.signal(number, handler)


def _watching(
    handler: Callable[[int, FrameType | None], Any], received: list[int]
) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        raised = True
        try:
            handler(number, frame)
            raised = False
        finally:
            if raised:
                received.append(number)

    return handle
