"""README tells the truth: its example is a file that runs, and what it names exists."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import typer

from nas.cli import app, mount_plugins
from search_spaces.language.space import Space

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_example_is_the_file_and_its_space_is_sound() -> None:
    match = re.search(r"<!-- (\S+) -->\n```python\n(.*?)```", README, re.DOTALL)
    assert match
    assert (ROOT / match[1]).read_text() == match[2]
    space = runpy.run_path(str(ROOT / match[1]))["space"]
    assert isinstance(space, Space)
    assert space.size() > 1000


def test_commands_targets_and_links_exist() -> None:
    mount_plugins()
    group = typer.main.get_command(app)
    known = set(group.commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"^ {4}(?:.*&& |.*\| )?nas ([a-z]+)", README, re.MULTILINE))
    assert named <= known
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", README)) <= targets
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
