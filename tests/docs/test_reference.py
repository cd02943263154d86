"""`make docs` writes a page for everything that is registered, and a row for every option."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from foundation.settings import describe
from nas.engines.base import engines
from nas.objectives.base import objectives
from nas.study.plan import Plan
from tests.docs.pages import ROOT

MAKE = runpy.run_path(str(ROOT / "docs/make.py"))
PAGES: dict[str, str] = dict(MAKE["pages"]())


def test_all_pages_are_written(tmp_path: Path) -> None:
    MAKE["main"](tmp_path / "reference")
    assert {path.stem for path in (tmp_path / "reference").iterdir()} == set(PAGES)


def test_the_index_lists_all_pages() -> None:
    index = (ROOT / "docs/reference/README.md").read_text()
    assert set(re.findall(r"`(\w+)\.md`", index)) == set(PAGES)


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_page_has_a_title_and_content(name: str) -> None:
    title, *lines = PAGES[name].splitlines()
    assert title.startswith("# ")
    assert "do not edit" in PAGES[name]
    assert len([line for line in lines if line.strip()]) > 3


def test_every_option_of_a_command_has_a_row() -> None:
    page = PAGES["command_line"]
    search = page.split("## nas search\n")[1].split("\n## ")[0]
    assert all(f"`{option}`" in search for option in ("--objective", "-o", "--trials", "--engine"))
    assert "## nas supernet train\n" in page
    assert "## nas report\n" in page


def test_every_setting_objective_and_engine_is_described() -> None:
    assert all(f"| `{setting.name}` |" in PAGES["settings"] for setting in describe(Plan))
    assert all(f"| `{name}` |" in PAGES["objectives"] for name in objectives)
    assert all(f"## {name}\n" in PAGES["engines"] for name in engines)
