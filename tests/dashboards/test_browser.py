"""The dashboard in a real browser: what a reader does on each page, by mouse, by keys and on a phone.

One browser, one server and one store serve all of these; they take some seconds together.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page

import nas
from dashboards.app.login import read_password
from dashboards.app.server import make_app
from dashboards.pages import pages
from dashboards.style.theme import DARK, LIGHT
from nas.store import Store
from nas.study.study import Study
from tests.dashboards.browser import CHROMIUM, PHONE, Heard, browser, served, window
from tests.dashboards.made import make_study

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")

LONG = "other-" + "a-long-name-" * 6
PASSWORD = "open sesame"
PLOT = "document.querySelector('#front-plot .js-plotly-plot')"
DRAWN = f"{PLOT}?.data?.length > 3"
PICKED = f"{PLOT}.data.some(trace => trace.name === 'picked')"
POINT = """
(() => {
  const plot = document.querySelector("#front-plot .js-plotly-plot"), box = plot.getBoundingClientRect();
  const trace = plot.data.find(each => (each.name || "").startsWith("front") && each.x.length > 1);
  const at = trace.x.length - 1, {xaxis, yaxis, _size} = plot._fullLayout;
  const x = xaxis.l2p(xaxis.d2l(trace.x[at])), y = yaxis.l2p(yaxis.d2l(trace.y[at]));
  return [box.x + _size.l + x, box.y + _size.t + y, trace.customdata[at]];
})()
"""
"""Where the last point of the front is in the window, and the number of its trial."""

READY = {
    "studies": "document.querySelector('.studies a')",
    "front": DRAWN,
    "network": "document.querySelector('#network-strip .js-plotly-plot')?.data?.length > 2",
    "compare": "document.querySelector('#compare-sides table')",
    "comparison": "document.querySelector('#comparison-shown table')",
}
"""What a page shows when it is done; of another one, its heading."""

WIDE = """
[...document.querySelectorAll(".js-plotly-plot")].map(each => Math.round(each.getBoundingClientRect().width))
  .filter(width => width > innerWidth)
"""
"""The widths of figures that do not fit the window."""

FOLLOW = """
path => { history.pushState({}, "", path); dispatchEvent(new PopStateEvent("popstate")); }
"""
"""Goes to another page as its links do, without loading scripts again."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two studies that are made up, and one that was trained, for a moment."""
    folder = tmp_path_factory.mktemp("browser")
    path, text = folder / "studies.db", folder / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 4000)
    with Store(path) as opened:
        make_study(opened, "full", trials=30, complete=False)
        make_study(opened, LONG, trials=12, complete=False, dice=5)
    settings: dict[str, Any] = {"trials": 2, "train_steps": 1, "finalists": 0, "validation_windows": 4}
    settings |= {"objectives": ("bits_per_byte", "params"), "data": str(text), "progress": False}
    nas.search("laptop", name="trained", store=str(path), **settings)
    return path


@pytest.fixture(scope="module")
def site(store: Path) -> Iterator[str]:
    with served(make_app(store)) as address:
        yield address


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def windows(chromium: Browser, site: str) -> dict[str, tuple[Page, Heard]]:
    """A laptop's and a phone's, which the tests share."""
    opened = {"laptop": window(chromium), "phone": window(chromium, PHONE)}
    heard = {name: (page, Heard(page.context)) for name, page in opened.items()}
    for page in opened.values():
        page.goto(site)
    return heard


@pytest.fixture
def page(windows: dict[str, tuple[Page, Heard]], site: str) -> Iterator[Page]:
    shown, heard = windows["laptop"]
    yield shown
    assert_quiet(heard, site)


@pytest.fixture
def phone(windows: dict[str, tuple[Page, Heard]], site: str) -> Iterator[Page]:
    shown, heard = windows["phone"]
    yield shown
    assert_quiet(heard, site)


def assert_quiet(heard: Heard, site: str) -> None:
    """No error in the console, and nothing asked of another host."""
    errors, heard.errors[:] = list(heard.errors), []
    assert errors == []
    assert heard.hosts == {urlsplit(site).netloc}


def digest_of(store: Path, number: int) -> str:
    with Store(store, read_only=True) as opened:
        return Study(opened, opened.study("full")).trial(number).digest


def show(page: Page, path: str, ready: str = DRAWN) -> None:
    page.evaluate(FOLLOW, path)
    page.wait_for_function(ready)


def test_a_click_shows_its_network_and_the_address_keeps_it(page: Page, store: Path) -> None:
    show(page, "/study/full")
    x, y, number = page.evaluate(POINT)
    page.mouse.click(x, y)
    digest = digest_of(store, number)
    page.locator("#front-panel h2 code", has_text=digest).wait_for()
    page.wait_for_function(f"location.search.includes('pick={number}') && {PICKED}")
    page.get_by_role("link", name="Layer by layer").click()
    page.wait_for_function(READY["network"])
    assert digest in page.locator("h1").inner_text()


def test_a_slider_changes_the_best_and_a_link_restores_the_view(page: Page, store: Path) -> None:
    show(page, "/study/full?x=params&max.weight_bytes=150&log=x&pick=7")
    best, picked = page.locator("#front-best"), page.locator("#front-panel h2 code")
    best.get_by_text("under these bounds").wait_for()
    page.wait_for_function(f"{PLOT}.layout.xaxis.title.text.startsWith('parameters')")
    before = best.inner_text()
    page.locator(".bound [role=slider]").last.focus()
    page.keyboard.press("PageDown")
    page.wait_for_function("text => document.querySelector('#front-best').innerText !== text", arg=before)
    page.wait_for_function("!location.search.includes('max.weight_bytes=150')")
    said, chosen = best.inner_text(), digest_of(store, 7)
    assert picked.inner_text() == chosen
    page.reload()
    best.get_by_text("under these bounds").wait_for()
    page.wait_for_function(f"{DRAWN} && {PICKED}")
    assert best.inner_text() == said
    assert picked.inner_text() == chosen
    assert page.evaluate(f"{PLOT}.layout.xaxis.title.text").startswith("parameters")


def test_another_study_is_laid_over_it_from_the_menu(page: Page) -> None:
    show(page, "/study/full")
    page.locator("#front-over").click()
    page.get_by_role("option").filter(has_text=LONG).click()
    page.wait_for_function(f"name => {PLOT}.data.some(trace => trace.name === name)", arg=LONG)
    page.wait_for_function(f"location.search.includes('over={LONG}')")
    page.keyboard.press("Escape")


def test_a_link_restores_a_lasso_which_is_taken_home(page: Page, store: Path, tmp_path: Path) -> None:
    show(page, "/", READY["studies"])
    show(page, "/study/full?chosen=3.5", "document.querySelector('#front-rows table')")
    page.get_by_text("Those inside the lasso.").wait_for()
    shown = page.locator("#front-rows tbody a.mono").all_inner_texts()
    assert shown == [digest_of(store, 3), digest_of(store, 5)]
    with page.expect_download() as file:
        page.get_by_role("button", name="CSV").click()
    file.value.save_as(tmp_path / "lasso.csv")
    assert [line.split(",")[1] for line in (tmp_path / "lasso.csv").read_text().splitlines()[1:]] == shown


def test_studies_are_compared(page: Page) -> None:
    show(page, "/", READY["studies"])
    page.get_by_role("link", name="compare studies").click()
    page.get_by_role("heading", name="Studies compared").wait_for()
    show(page, "/", READY["studies"])
    show(page, f"/comparison?with=full&with={LONG}", READY["comparison"])
    assert page.locator("#comparison-shown table th a").all_inner_texts()[:2] == ["full", LONG]
    page.locator("#comparison-shown .js-plotly-plot .main-svg").first.wait_for()


def test_networks_of_the_front_are_compared(page: Page) -> None:
    show(page, "/study/full")
    page.locator("#front-rows a", has_text="Compare").click()
    heads = page.locator("#compare-sides table").first.locator("thead a")
    heads.first.wait_for()
    shown = heads.all_inner_texts()
    assert len(shown) > 1
    assert [f"with={digest}" for digest in shown] == urlsplit(page.url).query.split("&")
    page.locator("#compare-lines .js-plotly-plot").wait_for()
    page.locator("#compare-with").click()
    page.get_by_role("option").filter(has_text=shown[0]).click()
    heads.filter(has_text=shown[0]).wait_for(state="detached")
    assert heads.all_inner_texts() == shown[1:]
    page.keyboard.press("Escape")


def test_a_network_is_drawn_in_the_colours_of_the_night(page: Page, store: Path) -> None:
    show(page, f"/study/full/network/{digest_of(store, 0)}?by=bits", READY["network"])
    assert "Decoder(" in page.locator(".source pre").inner_text()
    ink = "document.querySelector('#network-strip .js-plotly-plot').layout.template.layout.font.color"
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"{ink} === '{DARK.ink}'")
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"{ink} === '{LIGHT.ink}'")
    assert urlsplit(page.url).query == "by=bits"


def test_an_export_is_a_folder_that_loads(page: Page, tmp_path: Path) -> None:
    show(page, "/study/trained/network", "document.querySelector('h1')?.innerText.includes('of trained')")
    page.wait_for_function(READY["network"])
    with page.expect_download() as zipped:
        page.get_by_role("button", name="Export", exact=True).click()
    zipped.value.save_as(tmp_path / "network.zip")
    page.get_by_text("exported in").wait_for()
    zipfile.ZipFile(tmp_path / "network.zip").extractall(tmp_path / "out")
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name == f"trained-{page.locator('h1 code').inner_text()}"
    assert sum(each.numel() for each in nas.load(folder).parameters()) > 1000


@pytest.mark.parametrize("name", list(pages))
def test_a_phone_does_not_scroll_sideways(phone: Page, name: str) -> None:
    path = f"/study/{LONG}/{name}" if pages[name].of_study else f"/{name}?with=full&with={LONG}"
    show(phone, path, READY.get(name, "document.querySelector('h1')"))
    assert phone.evaluate("innerWidth") == PHONE
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE
    assert phone.evaluate(WIDE) == []
    show(phone, "/", READY["studies"])  # where less is asked for meanwhile


def test_everything_is_reached_by_keys(page: Page) -> None:
    """From the list to a study, another axis, a network from the table, and back."""
    show(page, "/", READY["studies"])
    tab_to(page, "document.activeElement.getAttribute('href') === '/study/full'")
    page.keyboard.press("Enter")
    page.wait_for_function(DRAWN)
    assert urlsplit(page.url).path == "/study/full"
    tab_to(page, "document.activeElement.closest('#front-x')")
    page.keyboard.press("Enter")
    page.locator("[role=listbox] :focus").wait_for()
    page.keyboard.press("ArrowDown")
    page.locator("[role=listbox] :focus:not(:checked)").wait_for()
    page.keyboard.press("Enter")
    page.wait_for_function("location.search.includes('x=')")
    tab_to(page, "document.activeElement.closest('.listed a')", most=80)
    page.keyboard.press("Enter")
    page.wait_for_function(READY["network"])
    page.go_back()
    page.wait_for_function(DRAWN)
    assert "x=" in page.url


def test_a_tab_has_a_title_and_terms_say_what_they_mean_by_keys(page: Page) -> None:
    show(page, "/study/full", DRAWN)
    assert page.title() == "full \N{MIDDLE DOT} nas"
    tab_to(page, "document.activeElement.tagName === 'ABBR'", most=80)
    shown = "[document.activeElement.title, getComputedStyle(document.activeElement, '::after').content]"
    title, said = page.evaluate(shown)
    assert title
    assert title in said


def tab_to(page: Page, reached: str, most: int = 40) -> None:
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate(f"!!({reached})"):
            return
    pytest.fail(f"no key leads there: {reached}")


def test_a_login_opens_the_page_that_was_asked_for(chromium: Browser, store: Path, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    password, _ = read_password(file)
    page = window(chromium)
    heard = Heard(page.context)
    with served(make_app(store, password=password)) as address:
        page.goto(f"{address}/?find=full&order=name")
        page.get_by_label("Password").fill("open, sesame")
        page.keyboard.press("Enter")
        page.get_by_text("That is not the password.").wait_for()
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.get_by_role("link", name="full").wait_for()
        assert page.url == f"{address}/?find=full&order=name"
        page.get_by_role("button", name="log out").click()
        page.goto(f"{address}/study/full")
        page.get_by_label("Password").wait_for()
        page.context.close()
    assert [error for error in heard.errors if "401" not in error] == []
    assert heard.hosts == {urlsplit(address).netloc}


def test_a_page_cannot_ask_another_host_and_an_error_is_heard(
    page: Page, windows: dict[str, tuple[Page, Heard]]
) -> None:
    """The other tests look for errors, so these must be seen where they are."""
    _, heard = windows["laptop"]
    asked = "fetch('http://203.0.113.1/').then(() => 'sent', () => 'refused')"
    assert page.evaluate(asked) == "refused"
    assert any("Content Security Policy" in error for error in heard.errors)
    heard.errors.clear()
