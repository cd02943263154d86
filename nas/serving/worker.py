"""The thread of an engine: it sleeps while there is nothing to do, and fails no client in silence."""

from __future__ import annotations

import threading
from collections.abc import Callable

from nas.serving.engine import Engine
from nas.serving.requests import Closing, Request

FAULT = "the server has failed"


class Worker:
    """An engine in a thread of its own; `submit` and `cancel` are for the others."""

    def __init__(self, engine: Engine, died: Callable[[], None] = lambda: None) -> None:
        """`died` is called if the engine raises: what it raised is a bug, and rises in the thread."""
        self.engine, self._died = engine, died
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it answers requests."""
        return self._thread.is_alive() and not self._closing

    def submit(self, request: Request) -> None:
        """Let a request wait for its turn.

        Raises:
            Closing: the server stops.
            QueueFull, TooLong, SettingError: as `Engine.submit`.
        """
        with self._wake:
            if not self.alive:
                raise Closing("the server is stopping")
            self.engine.submit(request)
            self._wake.notify()

    def cancel(self, request: Request) -> None:
        """End a request, of which nobody wants to hear any more."""
        request.cancelled = True
        with self._wake:
            self._wake.notify()

    def stop(self) -> None:
        """End what runs, and the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        whole = False
        try:
            while self._waits_for_work():
                self.engine.iterate()
            whole = True
        finally:
            with self._wake:
                self._closing = True
                self.engine.fail_all("the server is stopping" if whole else FAULT)
            if not whole:
                self._died()

    def _waits_for_work(self) -> bool:
        with self._wake:
            while not (self._closing or self.engine.busy):
                self._wake.wait()
        return not self._closing
