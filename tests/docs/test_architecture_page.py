"""ARCHITECTURE.md names files, folders and functions that exist."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT

TEXT = (ROOT / "ARCHITECTURE.md").read_text()
PATHS = sorted(set(re.findall(r"`([a-z_]+(?:/[a-z_]+)*(?:\.py)?)`", TEXT)))
WALK = re.findall(r"^\| .* \| `([\w/]+\.py)` \| `(\w+)` \|$", TEXT, re.MULTILINE)
HOMES = [path for path in PATHS if "/" in path]


@pytest.mark.parametrize("path", HOMES)
def test_paths_exist(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("file", "name"), WALK)
def test_the_walk_of_a_trial_names_what_is_defined_there(file: str, name: str) -> None:
    assert re.search(rf"^ *(?:def|class) {name}\b", (ROOT / file).read_text(), re.MULTILINE)


def test_every_package_and_folder_is_explained() -> None:
    packages = ("search_spaces", "evaluators", "hw_profiles", "nas", "dashboards")
    folders = {
        f"{package}/{path.name}"
        for package in packages
        for path in (ROOT / package).iterdir()
        if (path / "__init__.py").exists()
    }
    assert folders <= set(PATHS), folders - set(PATHS)
