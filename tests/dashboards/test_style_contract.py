"""Pages and style sheets agree: every class that a page uses has a rule, and rules have their elements."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dashboards.app.live_store import LiveStore, key_of
from dashboards.app.shell import Shell
from dashboards.facts import Facts, NextSteps, read_comparison
from dashboards.report.comparison import comparison_html
from dashboards.report.study import report_html
from dashboards.style.app_css import app_css
from dashboards.style.css import base_css, report_css
from dashboards.style.theme import DARK, LIGHT, MARKS, SCHEMES, faint
from nas.store import Store
from nas.study.study import Study
from nas.study.trial import Value
from tests.dashboards.conftest import NAMES
from tests.dashboards.made import make_study
from tests.dashboards.test_report import Reader

UNSTYLED = {"plot", "plane", "values"}
"""Classes for scripts and tests alone."""


def classes_of_rules(sheet: str) -> set[str]:
    """The names of classes in the selectors of a style sheet."""
    selectors = re.sub(r"\{[^{}]*\}", " ", sheet)
    return set(re.findall(r"\.([a-zA-Z_][\w-]*)", selectors))


def classes_of_page(page: str) -> set[str]:
    """The names of classes that the elements of a page have."""
    elements = Reader(page).elements
    return {name for _, attributes in elements for name in (attributes.get("class") or "").split()}


def classes_of_components(plain: Any) -> Iterator[str]:
    """The names of classes in a tree of Dash components, as JSON."""
    if isinstance(plain, list):
        for part in plain:
            yield from classes_of_components(part)
    elif isinstance(plain, dict):
        yield from str(plain.get("className") or "").split()
        for part in plain.values():
            yield from classes_of_components(part)


def with_rough_scenario(facts: Facts) -> Facts:
    """A study with a latency in a scenario of a name, predicted by a rough table."""
    first, *others = facts.front
    rough = {**first.values, "decode_ms@chat": Value(1.0, None, "predicted, rough")}
    return replace(facts, front=(replace(first, values=rough), *others))


@pytest.fixture(scope="module")
def report_classes(
    all_facts: dict[str, Facts], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, set[str]]:
    """Classes of the report of each study, and of a comparison."""
    found = {name: classes_of_page(report_html(all_facts[name])) for name in NAMES}
    costs = replace(all_facts["two"], next_steps=NextSteps(scored=False))
    found["costs"] = classes_of_page(report_html(costs))
    found["scenarios"] = classes_of_page(report_html(with_rough_scenario(all_facts["full"])))
    with Store(tmp_path_factory.mktemp("two") / "studies.db") as store:
        made = [make_study(store, name, trials=6, complete=False, dice=len(name)) for name in ("a", "bb")]
        facts = read_comparison([Study(store, study.record) for study in made])
        return {**found, "comparison": classes_of_page(comparison_html(facts))}


def test_every_class_of_a_report_has_a_rule(report_classes: dict[str, set[str]]) -> None:
    rules = classes_of_rules(report_css())
    for page, used in report_classes.items():
        assert used - rules - UNSTYLED == set(), page


def test_every_rule_of_the_report_has_an_element(report_classes: dict[str, set[str]]) -> None:
    """A rule whose class no page has is a leftover, or a page has lost its class."""
    used = set().union(*report_classes.values())
    own = classes_of_rules(report_css()) - classes_of_rules(base_css())
    marks = {f"of{index}" for index in range(len(MARKS))}
    assert own - used - marks == set()


def test_every_class_of_the_dashboard_has_a_rule(made_store: Path) -> None:
    with Store(made_store, read_only=True) as store:
        shell = Shell(LiveStore(store))
        places = ["/", *(f"/study/{name}" for name in NAMES), "/study/full/network", "/nowhere"]
        front = shell.pages["front"]
        below = front.below(None, {}, None, key_of(store.study("full")))
        shown = [*map(shell.page, places), *front.panel(None, {}, key_of(store.study("full"))), *below[0]]
        used: set[str] = set()
        for component in shown:
            plain = json.loads(json.dumps(component, default=lambda part: part.to_plotly_json()))
            used |= set(classes_of_components(plain))
    states = {"complete", "not", "stopped", "being", "trials", "state", "best", "hypervolume", "front"}
    assert used - classes_of_rules(app_css()) - UNSTYLED - states == set()


@pytest.mark.parametrize("sheet", [report_css(), app_css()], ids=["report", "app"])
def test_a_sheet_serves_dark_narrow_and_wide_pages(sheet: str) -> None:
    assert "prefers-color-scheme:dark" in sheet
    assert re.search(r"@media (screen and )?\(max-width:\d+px\)", sheet)
    assert LIGHT.paper in sheet
    assert DARK.paper in sheet


@pytest.mark.parametrize("sheet", [report_css(), app_css()], ids=["report", "app"])
def test_a_sheet_loads_nothing_and_has_no_empty_rules(sheet: str) -> None:
    assert "url(" not in sheet
    assert "@import" not in sheet
    assert "{}" not in sheet
    assert not re.search(r"\{\w+\}", sheet)


def test_columns_of_the_dashboard_may_become_narrower_than_their_content() -> None:
    """A column `1fr`, or a menu of fixed width, makes a page wider than a phone."""
    sheet = app_css()
    assert not re.search(r"grid-template-columns:1fr", sheet)
    assert re.search(r"\.pickers label\{[^}]*min-width:0", sheet)


def test_schemes_differ_in_every_colour() -> None:
    light, dark = SCHEMES["light"], SCHEMES["dark"]
    for name in ("paper", "raised", "ink", "muted", "rule", "link"):
        assert getattr(light, name) != getattr(dark, name)


@pytest.mark.parametrize("opacity", [0.0, 0.16, 1.0])
@pytest.mark.parametrize("mark", MARKS, ids=lambda mark: mark.symbol)
def test_faint_colours_of_marks_are_valid(mark: Any, opacity: float) -> None:
    match = re.fullmatch(r"rgba\((\d+), (\d+), (\d+), ([\d.]+)\)", faint(mark.colour, opacity))
    assert match
    assert all(0 <= int(match[i]) <= 255 for i in (1, 2, 3))
    assert float(match[4]) == opacity
