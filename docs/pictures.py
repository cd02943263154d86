"""The dashboard's pictures, of one study: `make pictures`, or `python -m docs.pictures STORE STUDY FOLDER`.

Every page of the registry, by day and by night, as a reader of a laptop sees it; it needs a `chromium`.
"""

from __future__ import annotations

import logging
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from dashboards.app.server import make_app
from dashboards.pages import address, pages
from tests.dashboards.browser import browser, served, window

WIDTH, HIGHEST = 1440, 4000
"""Pixels of a picture."""

COLOURS = 96
"""So many are told apart in a picture of text and lines, and it takes a third of the bytes."""

STEADY_MS = 4000
"""A page that stays as it is for so long is done: what is fitted to a study takes seconds."""

SETTLED = """
document.querySelector("h1") && !document.querySelector("[data-dash-is-loading], .awaited")
  && [...document.querySelectorAll(".js-plotly-plot")].every(each => each.querySelector(".main-svg"))
"""
"""Nothing is awaited, and every figure is drawn."""


def main(store: str, study: str, folder: Path) -> None:
    """Write `dashboard_NAME.png` and `dashboard_NAME_dark.png` for every page."""
    folder.mkdir(parents=True, exist_ok=True)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with served(make_app(store)) as site, browser() as opened:
        for dark in (False, True):
            page = window(opened, WIDTH, dark=dark)
            for name, kind in pages.items():
                path = address(name, study) if kind.of_study else address(name)
                file = folder / f"dashboard_{name}{'_dark' if dark else ''}.png"
                file.write_bytes(picture(page, site + path))
                sys.stdout.write(f"{file} {file.stat().st_size / 1024:.0f} kB\n")


def picture(page: Page, url: str) -> bytes:
    """A page from its top, as a PNG file of few colours."""
    page.goto(url, wait_until="networkidle")
    seen = ""
    while seen != (seen := page.evaluate("document.body.innerText")):
        page.wait_for_function(SETTLED)
        page.wait_for_timeout(STEADY_MS)
    high = min(HIGHEST, int(page.evaluate("document.documentElement.scrollHeight")))
    page.set_viewport_size({"width": WIDTH, "height": high})
    page.wait_for_timeout(300)
    whole = Image.open(BytesIO(page.screenshot(animations="disabled")))
    page.set_viewport_size({"width": WIDTH, "height": 800})
    written = BytesIO()
    whole.convert("RGB").quantize(COLOURS).save(written, "PNG", optimize=True)
    return written.getvalue()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
