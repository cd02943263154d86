"""Settings in how-to pages, and the additions that ARCHITECTURE.md lists, are those of the code."""

from __future__ import annotations

import re
from functools import reduce
from importlib import import_module

import pytest

from evaluators.training.recipe import Recipe
from foundation.registry import Registry
from foundation.settings import describe
from nas.engines.base import engines
from tests.docs.pages import ROOT

ENGINES = (ROOT / "docs/how-to/choose_an_engine.md").read_text()
RECIPE = (ROOT / "docs/how-to/change_the_recipe.md").read_text()
ADDITIONS = (ROOT / "ARCHITECTURE.md").read_text().split("## To add something")[1]


def first_cells(text: str) -> list[str]:
    """The names in the first cells of the rows of a page's tables."""
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`([\w.]+)(?:=\w+)?`", row.split(" | ")[0])]


def test_every_engine_has_a_row() -> None:
    assert set(first_cells(ENGINES.split("## Settings of")[0])) == set(engines)


@pytest.mark.parametrize(
    ("engine", "section"), re.findall(r"## Settings of `(\w+)`\n(.*?)\n## ", ENGINES, re.S)
)
def test_settings_of_an_engine_exist(engine: str, section: str) -> None:
    named, known = first_cells(section), {setting.name for setting in describe(engines[engine])}
    assert named
    assert set(named) <= known, set(named) - known


@pytest.mark.parametrize("name", first_cells(RECIPE))
def test_settings_of_the_recipe_exist_and_have_the_default_shown(name: str) -> None:
    value: object = reduce(getattr, name.split("."), Recipe())
    row = next(line for line in RECIPE.splitlines() if line.startswith("|") and f"`{name}`" in line)
    shown = row.split(" | ")[1]
    if isinstance(value, (int, float)):
        assert f"{value:g}" in shown


def rows() -> list[tuple[str, str]]:
    """What may be added: the folder of its file, and the name of its registry."""
    return re.findall(r"`([a-z_/]+)/NAME\.py` with `@?(\w+)\.add", ADDITIONS)


@pytest.mark.parametrize(("folder", "name"), rows())
def test_an_addition_is_a_file_that_its_registry_finds(folder: str, name: str) -> None:
    package = folder.replace("/", ".")
    modules = [f"{package}.base", package]
    found = [vars(import_module(module)).get(name) for module in modules if _exists(module)]
    (registry,) = {id(thing): thing for thing in found if isinstance(thing, Registry)}.values()
    assert registry._folder == package
    assert len(registry) > 0


def _exists(module: str) -> bool:
    path = ROOT / module.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def test_additions_are_those_that_readers_look_for() -> None:
    things = set(re.findall(r"^\| (?:an?|the) ([^|]+?) \|", ADDITIONS, re.MULTILINE))
    assert things >= {
        "block",
        "norm",
        "layer option",
        "optimizer",
        "schedule",
        "step of a study",
        "engine",
        "strategy",
        "objective that is trained, with its task",
        "runtime",
        "figure of the report",
        "command",
    }


def test_contract_tests_of_additions_are_files() -> None:
    tests = set(re.findall(r"`(tests/[\w/]+\.py)`", ADDITIONS))
    assert len(tests) > 10
    assert all((ROOT / path).exists() for path in tests)
