"""Reports as a browser lays them out: on a phone, nothing is cut and nothing scrolls the page sideways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dashboards.facts import Facts, read_comparison
from dashboards.report.comparison import comparison_html
from dashboards.report.study import report_html
from nas.store import Store
from nas.study.study import Study
from tests.dashboards.browser import CHROMIUM, Browser, browser
from tests.dashboards.made import make_study

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

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


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


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
def test_a_page_is_as_wide_as_a_phone(name: str, shown: Browser, pages: dict[str, Path]) -> None:
    shown.open(pages[name], 390)
    shown.value("document.querySelectorAll('details').forEach(more => more.open = true)")
    assert shown.value("innerWidth") == 390
    assert shown.value(WIDTH) <= 390
    assert shown.value(CUT) == []
    assert shown.value(CUT_TITLES) == []


def test_a_wide_page_uses_the_width_and_cuts_nothing(shown: Browser, pages: dict[str, Path]) -> None:
    shown.open(pages["full"], 1280, dark=True)
    assert shown.value(WIDTH) <= 1280
    assert shown.value(CUT) == []
    assert shown.value(CUT_TITLES) == []
    assert shown.value("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"


def test_a_member_has_its_numbers_in_one_table_that_fits_a_phone(
    shown: Browser, pages: dict[str, Path]
) -> None:
    shown.open(pages["full"], 390)
    boxes = shown.value(
        "[...document.querySelectorAll('details[open] .scroll')]"
        ".map(box => box.scrollWidth - box.clientWidth)"
    )
    assert boxes == [0]
