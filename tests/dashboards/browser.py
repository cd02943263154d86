"""Chromium without a window, through Playwright: what tests, benchmarks and pictures look at pages with.

The browser is the one of this system (`apt-get install chromium`); Playwright's own are not fetched.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright
from werkzeug.serving import make_server

CHROMIUM = shutil.which("chromium")
FLAGS = ("--no-sandbox", "--disable-gpu")

PATIENCE = 30_000
"""Milliseconds after which what a page should show is given up."""

LAPTOP, PHONE = 1440, 390
"""Widths of windows."""


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser, ended at the end of the block."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


def window(opened: Browser, width: int = LAPTOP, *, dark: bool = False, **more: Any) -> Page:
    """An empty page with cookies and a cache of its own; a narrow one is that of a phone."""
    context = opened.new_context(
        viewport={"width": width, "height": 800},
        is_mobile=width < 600,
        color_scheme="dark" if dark else "light",
        **more,
    )
    context.set_default_timeout(PATIENCE)
    return context.new_page()


class Heard:
    """What pages of a window asked for, and which errors they met."""

    def __init__(self, context: BrowserContext) -> None:
        self.asked: list[str] = []
        self.errors: list[str] = []
        context.on("request", self._request)
        context.on("console", self._console)
        context.on("weberror", lambda error: self.errors.append(str(error.error)))

    @property
    def hosts(self) -> set[str]:
        """The hosts that something was asked of."""
        return {urlsplit(url).netloc for url in self.asked if url.startswith(("http", "ws"))}

    def _request(self, request: Request) -> None:
        self.asked.append(request.url)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text[:300])


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The address of an app that is served meanwhile."""
    server = make_server("127.0.0.1", 0, app.server, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
