"""The dashboard in a real browser: clicks, sliders, links, overlays, a phone, keys, no outside requests.

One browser and one server serve all of these; they take some seconds together.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from werkzeug.serving import make_server

from dashboards.app.server import make_app
from nas.store import Store
from nas.study.study import Study
from tests.dashboards.browser import CHROMIUM, Browser, browser
from tests.dashboards.made import make_study

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")

DRAWN = "document.querySelector('#front-plot .js-plotly-plot')?.data?.length > 3"
PANEL = "document.querySelector('#front-panel h2 code')?.innerText"
POINT = """
(() => {
  const plot = document.querySelector("#front-plot .js-plotly-plot"), box = plot.getBoundingClientRect();
  const trace = plot.data.find(each => (each.name || "").startsWith("front") && each.x.length > 1);
  const at = trace.x.length - 1, {xaxis, yaxis, _size} = plot._fullLayout;
  const x = xaxis.l2p(xaxis.d2l(trace.x[at])), y = yaxis.l2p(yaxis.d2l(trace.y[at]));
  return [box.x + _size.l + x, box.y + _size.t + y, trace.customdata[at]];
})()
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("browser") / "studies.db"
    with Store(path) as opened:
        make_study(opened, "full", trials=30, complete=False)
        make_study(opened, "other-" + "a-long-name-" * 6, trials=12, complete=False, dice=5)
    return path


@pytest.fixture(scope="module")
def site(store: Path) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, make_app(store).server, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        for domain in ("Network", "Runtime", "Log"):
            opened.call(f"{domain}.enable")
        yield opened


def digest_of(store: Path, number: int) -> str:
    with Store(store, read_only=True) as opened:
        return Study(opened, opened.study("full")).trial(number).digest


def test_a_click_shows_its_network_and_the_address_keeps_it(page: Browser, site: str, store: Path) -> None:
    page.open(f"{site}/study/full", 1440)
    page.until(DRAWN)
    x, y, number = page.value(POINT)
    page.click(x, y)
    digest = digest_of(store, number)
    page.until(f"{PANEL} === '{digest}'")
    page.until(f"location.search.includes('pick={number}')")
    page.until("document.querySelector('#front-plot .js-plotly-plot').data.some(t => t.name === 'picked')")


def test_a_bound_names_the_best_network_and_a_link_restores_the_view(page: Browser, site: str) -> None:
    page.open(f"{site}/study/full?x=params&max.weight_bytes=150&log=x", 1440)
    page.until("document.querySelector('#front-best a')")
    assert "under these bounds" in page.value("document.querySelector('#front-best').innerText")
    title = "document.querySelector('#front-plot .js-plotly-plot')?.layout?.xaxis?.title?.text"
    page.until(f"{title}?.startsWith('parameters')")
    assert page.value("location.search").startswith("?x=params")
    before = page.value("document.querySelector('#front-best').innerText")
    page.value("document.querySelector('.bound:nth-of-type(4) [role=slider], .bound [role=slider]').focus()")
    page.press("ArrowLeft", 12)
    page.until(f"document.querySelector('#front-best').innerText !== {json.dumps(before)}")


@pytest.mark.slow
def test_another_study_is_laid_over_it(page: Browser, site: str) -> None:
    name = "other-" + "a-long-name-" * 6
    page.open(f"{site}/study/full?over={name}", 1440)
    page.until(f"document.querySelector('#front-plot .js-plotly-plot')?.data?.some(t => t.name === '{name}')")


@pytest.mark.slow
def test_a_network_is_drawn_layer_by_layer(page: Browser, site: str, store: Path) -> None:
    page.open(f"{site}/study/full/network/{digest_of(store, 0)}", 1440, dark=True)
    page.until("document.querySelector('#network-strip .js-plotly-plot')?.data?.length > 2")
    assert "Decoder(" in page.value("document.body.innerText")
    ink = "document.querySelector('#network-strip .js-plotly-plot').layout.template.layout.font.color"
    assert page.value(ink) == "#e6e7e8"


@pytest.mark.parametrize("path", ["/", "/study/full", "/study/full/network"])
def test_a_phone_does_not_scroll_sideways(page: Browser, site: str, path: str) -> None:
    page.open(f"{site}{path}", 390)
    page.until("document.querySelector('h1')")
    page.until(DRAWN if path == "/study/full" else "document.querySelectorAll('a').length > 1")
    assert page.value("document.documentElement.scrollWidth") <= 390


def test_everything_is_reached_by_keys(page: Browser, site: str) -> None:
    page.open(f"{site}/", 1440)
    page.until("document.querySelector('.studies a')")
    reached = "document.activeElement.getAttribute('href')"
    for _ in range(20):
        page.press("Tab")
        if page.value(reached) == "/study/full":
            break
    page.press("Enter")
    page.until("location.pathname === '/study/full'")
    page.until(DRAWN)


def test_nothing_is_asked_of_other_hosts_and_no_error_is_logged(page: Browser, site: str) -> None:
    """Of all that the tests before did; this one is the last."""
    assert page.value("1 + 1") == 2
    asked = [e["params"]["request"]["url"] for e in page.events if e["method"] == "Network.requestWillBeSent"]
    assert len(asked) > 20
    assert {urlsplit(url).netloc for url in asked if url.startswith("http")} == {urlsplit(site).netloc}
    assert [message for event in page.events for message in errors(event)] == []


def errors(event: dict[str, Any]) -> list[str]:
    told = event.get("params", {})
    if event["method"] == "Runtime.exceptionThrown":
        return [json.dumps(told)[:300]]
    if event["method"] == "Log.entryAdded" and told["entry"]["level"] == "error":
        return [told["entry"]["text"][:300]]
    if event["method"] == "Runtime.consoleAPICalled" and told["type"] == "error":
        return [json.dumps(told["args"])[:300]]
    return []
