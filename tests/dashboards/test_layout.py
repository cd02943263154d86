"""Reports as a browser lays them out: on a phone, nothing is cut and nothing scrolls the page sideways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page

from dashboards.facts import Facts, read_comparison
from dashboards.report.comparison import comparison_html
from dashboards.report.study import report_html
from nas.store import Store
from nas.study.study import Study
from tests.dashboards.browser import CHROMIUM, PHONE, browser, window
from tests.dashboards.made import make_study

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")

WIDTH = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"

CUT = """
[...document.querySelectorAll("body *")].filter(element => {
  const box = element.getBoundingClientRect();
  const inside = element.closest(".scroll, #js-plotly-tester");
  return !inside && box.width && (box.right > innerWidth + 1 || box.left < -1);
}).map(element => element.outerHTML.slice(0, 90))
"""
"""Elements that reach beyond the page, but for those that scroll in a box of their own, and for a hidden one
in which Plotly measures texts."""

CUT_TITLES = """
[...document.querySelectorAll(".plot text")].filter(text => {
  const box = text.getBoundingClientRect(), plot = text.closest(".plot").getBoundingClientRect();
  return box.width && (box.left < plot.left - 1 || box.right > plot.right + 1);
}).map(text => text.textContent)
"""
"""Texts of figures that reach beyond them."""


DRAWN = "[...document.querySelectorAll('.plot')].every(each => each.querySelector('.main-svg'))"


@pytest.fixture(scope="module")
def windows() -> Iterator[tuple[Page, Page]]:
    """A wide one at night, and a phone's."""
    with browser() as opened:
        yield window(opened, 1280, dark=True), window(opened, PHONE)


@pytest.fixture
def wide(windows: tuple[Page, Page]) -> Page:
    return windows[0]


@pytest.fixture
def phone(windows: tuple[Page, Page]) -> Page:
    return windows[1]


def show(page: Page, file: Path) -> None:
    page.goto(file.as_uri())
    page.wait_for_function(DRAWN)


@pytest.fixture(scope="module")
def pages(all_facts: dict[str, Facts], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports with everything, with nothing, and with long names; and a comparison."""
    folder, full = tmp_path_factory.mktemp("pages"), all_facts["full"]
    long = replace(full, study=replace(full.study, name="n" * 80, constraints=("decode_ms<" + "9" * 90,)))
    made = {"full": full, "empty": all_facts["empty"], "long": long}
    for name, facts in made.items():
        (folder / f"{name}.html").write_text(report_html(facts))
    with Store(folder / "studies.db") as store:
        compared = [make_study(store, name, trials=8, complete=False, dice=len(name)) for name in ("a", "bb")]
        facts = read_comparison([Study(store, study.record) for study in compared])
    (folder / "comparison.html").write_text(comparison_html(facts))
    return {name: folder / f"{name}.html" for name in (*made, "comparison")}


@pytest.mark.parametrize("name", ["full", "empty", "long", "comparison"])
def test_a_page_is_as_wide_as_a_phone(name: str, phone: Page, pages: dict[str, Path]) -> None:
    show(phone, pages[name])
    phone.evaluate("document.querySelectorAll('details').forEach(more => more.open = true)")
    assert phone.evaluate("innerWidth") == PHONE
    assert phone.evaluate(WIDTH) <= PHONE
    assert phone.evaluate(CUT) == []
    assert phone.evaluate(CUT_TITLES) == []


def test_a_wide_page_uses_the_width_and_cuts_nothing(wide: Page, pages: dict[str, Path]) -> None:
    show(wide, pages["full"])
    assert wide.evaluate(WIDTH) <= 1280
    assert wide.evaluate(CUT) == []
    assert wide.evaluate(CUT_TITLES) == []
    assert wide.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"


def test_a_member_has_its_numbers_in_one_table_that_fits_a_phone(phone: Page, pages: dict[str, Path]) -> None:
    show(phone, pages["full"])
    boxes = phone.evaluate(
        "[...document.querySelectorAll('details[open] .scroll')]"
        ".map(box => box.scrollWidth - box.clientWidth)"
    )
    assert boxes == [0]
