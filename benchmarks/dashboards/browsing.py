"""What a reader waits for, timed in the browser: the first figure, a slider, an axis, a poll without news."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from playwright.sync_api import Browser, Page, Response, TimeoutError

from benchmarks.dashboards.servers import Served
from tests.dashboards.browser import window

PLOT = "document.querySelector('#front-plot .js-plotly-plot')"
OURS = f"{PLOT}?.data?.length > 3"
BLANK = "document.querySelector('.js-plotly-plot')?.data?.length > 0"
READ = "document.querySelector('#front-line')?.innerText.includes('complete:')"
POLL_MS = 2500
"""Longer than the page waits between two polls."""

ANSWERED = f"""
([name, value]) => new Promise(done => {{
  const began = performance.now();
  {PLOT}.once("plotly_afterplot", () => done(performance.now() - began));
  dash_clientside.set_props(name, {{value}});
}})
"""
"""Sets a control as a reader does, and counts milliseconds until the figure is drawn."""


def first_figure(opened: Browser, address: str, drawn: str, seconds: float) -> float | None:
    """Seconds from an address to the drawn figure in a new window; None where it takes longer."""
    page = window(opened)
    began = time.perf_counter()
    try:
        page.goto(address, timeout=1000 * seconds)
        page.wait_for_function(drawn, timeout=1000 * seconds, polling=20)
        return time.perf_counter() - began
    except TimeoutError:
        return None
    finally:
        page.context.close()


def until_read(opened: Browser, address: str, seconds: float) -> float:
    """Seconds until the server has read the study."""
    page = window(opened)
    began = time.perf_counter()
    page.goto(address)
    page.wait_for_function(READ, timeout=1000 * seconds)
    page.context.close()
    return time.perf_counter() - began


def answers(opened: Browser, address: str, times: int) -> dict[str, list[float]]:
    """Milliseconds until a figure is drawn anew, after a slider and after another axis, on one page."""
    page = window(opened)
    page.goto(address)
    page.wait_for_function(OURS)
    page.locator("#front-bound-2 input").wait_for()
    end = float(page.locator("#front-bound-2 input").get_attribute("max") or 1)
    found: dict[str, list[float]] = {"slider": [], "axis": []}
    for turn in range(times):
        at = 0.9 - 0.05 * turn
        found["slider"].append(page.evaluate(ANSWERED, ["front-bound-2", at * end]))
        page.wait_for_timeout(300)
        found["axis"].append(page.evaluate(ANSWERED, ["front-x", ("params", "decode_ms")[turn % 2]]))
        page.wait_for_timeout(300)
    page.context.close()
    return found


def polls(opened: Browser, address: str, times: int) -> dict[str, list[float]]:
    """Milliseconds and bytes, both ways with their headers, of polls that bring nothing new."""
    page = window(opened)
    page.goto(address)
    page.wait_for_function(OURS)
    page.wait_for_timeout(POLL_MS)
    heard: list[Response] = []
    page.on("response", lambda response: heard.append(response))
    while len(heard) < times:
        page.wait_for_timeout(POLL_MS)
    found: dict[str, list[float]] = {"ms": [], "bytes": []}
    for response in heard[:times]:
        assert response.ok, response.text()
        response.finished()
        timing, sizes = response.request.timing, response.request.sizes()
        found["ms"].append(timing["responseEnd"] - timing["requestStart"])
        sent = sizes["requestBodySize"] + sizes["requestHeadersSize"]
        found["bytes"].append(sent + sizes["responseBodySize"] + sizes["responseHeadersSize"])
    page.context.close()
    return found


def watched(opened: Browser, served: Served, path: str) -> Page:
    """A page that follows a study."""
    page = window(opened)
    page.goto(served.address + path)
    page.wait_for_function(OURS)
    return page


def spread(values: Sequence[float]) -> dict[str, Any]:
    """The median, with the least and the most."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return {"median": median, "least": ordered[0], "most": ordered[-1], "times": len(ordered)}
