"""Every code block of every tutorial runs, in order, in an empty folder."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from evaluators.tasks.base import tasks
from foundation.registry import Registry
from nas.cli import app, mount_plugins
from nas.objectives.base import objectives
from nas.study.user_files import run_file
from search_spaces.blocks.base import blocks
from tests.docs.pages import ROOT, CodeBlock, code_blocks

TUTORIALS = sorted((ROOT / "docs/tutorials").glob("*.md"))
REGISTRIES: tuple[Registry[object], ...] = (blocks, objectives, tasks)


@pytest.fixture(scope="module", autouse=True)
def _commands_of_other_packages() -> None:
    if "report" not in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        mount_plugins()


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a tutorial imports and registers is gone after it."""
    monkeypatch.chdir(tmp_path)
    modules = set(sys.modules)
    things = [(registry, {name: registry[name] for name in registry}) for registry in REGISTRIES]
    yield
    for registry, before in things:
        registry._things = before
    for name in set(sys.modules) - modules:
        if "my_" in name:
            del sys.modules[name]


def write(block: CodeBlock, folder: Path) -> None:
    """Write a file and import it by the name under which `nas` loads it, so that classes exist once."""
    path = folder / block.file
    path.write_text(block.text)
    sys.modules[path.stem] = run_file(path)


def run_commands(text: str) -> None:
    for line in text.splitlines():
        program, *words = shlex.split(line)
        assert program == "nas", line
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        assert result.exit_code == 0, f"{line}\n{result.output}"


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_every_block_of_a_tutorial_runs(tutorial: Path, tmp_path: Path) -> None:
    code = code_blocks(tutorial.read_text())
    assert {block.language for block in code} == {"python", "sh"}
    namespace: dict[str, object] = {"__name__": "tutorial"}
    for block in code:
        if block.file:
            write(block, tmp_path)
        elif block.language == "python":
            exec(compile(block.text, tutorial.name, "exec"), namespace)
        else:
            run_commands(block.text)
