"""Imports in code blocks of Markdown pages lead to what exists."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from tests.docs.pages import name_of, pages

PACKAGES = ("foundation", "search_spaces", "evaluators", "hw_profiles", "nas", "dashboards", "benchmarks")
IMPORT = re.compile(r"^ *from ([\w.]+) import ([\w, ]+)$", re.MULTILINE)
MODULE = re.compile(r"`((?:foundation|search_spaces|evaluators|hw_profiles|nas|dashboards)(?:\.\w+)+)`")


def resolves(dotted: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            if not hasattr(found, name):
                return False
            found = getattr(found, name)
        return True
    return False


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_what_a_page_imports_exists(page: Path) -> None:
    text = page.read_text()
    for module, names in IMPORT.findall(text):
        if module.split(".")[0] in PACKAGES:
            for name in names.split(","):
                assert resolves(f"{module}.{name.split(' as ')[0].strip()}"), f"{module}: {name}"
    for dotted in MODULE.findall(text):
        assert resolves(dotted), dotted
