"""Links of Markdown pages lead somewhere, and the commands that they show exist, with these options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from nas.cli import app, mount_plugins
from tests.docs.pages import ROOT, is_generated, name_of, pages

PAGES = pytest.mark.parametrize("page", pages(), ids=name_of)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NOT_A_COMMAND = re.compile(r"nas (?:\.|STUDY|SPACE)")


def links(text: str) -> list[str]:
    """Relative targets of a page's links, outside code blocks."""
    prose = re.sub(r"^```.*?^```$|^ {4}.*$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [target for target in LINK.findall(prose) if not target.startswith(("http:", "https:", "mailto:"))]


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@PAGES
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in links(page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if is_generated(target) and target.name != "README.md":
            continue
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def commands(text: str) -> Iterator[str]:
    """The `nas` command lines of a page: lines of code, and code within a line."""
    text = text.replace("\\\n", " ")
    for line in re.findall(r"^(?: {4}|\w*\$ *)?(?:.*\$ +)?(nas [a-z].*)$", text, flags=re.MULTILINE):
        for command in re.split(r"&&|\|", line.split("  #")[0]):
            yield command.strip()
    yield from re.findall(r"`(nas [a-z][^`]*)`", text)


def problem(command: str) -> str | None:
    """Why a command line cannot be right: no such command, or no such option."""
    words = [word for word in shlex.split(command.replace("[", "").replace("]", "")) if word != "..."]
    group: Any = typer.main.get_command(app)
    path = words[1:]
    while hasattr(group, "commands") and path and path[0] in group.commands:
        group, path = group.commands[path[0]], path[1:]
    if path and not path[0].startswith("-") and hasattr(group, "commands") and group.name != "profile":
        return f"no command {path[0]!r} in {command!r}"
    subcommands = getattr(group, "commands", {})
    options = {option for known in (group, *subcommands.values()) for option in _options(known)}
    unknown = [word.split("=")[0] for word in path if re.match(r"--?[a-z]", word)]
    return next((f"no option {word} in {command!r}" for word in unknown if word not in options), None)


def _options(command: Any) -> list[str]:
    named = [(*parameter.opts, *parameter.secondary_opts) for parameter in command.params]
    return ["--help", *(option for options in named for option in options)]


@PAGES
def test_command_lines_exist_with_these_options(page: Path) -> None:
    if "report" not in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        mount_plugins()
    problems = [problem(command) for command in commands(page.read_text())]
    assert [text for text in problems if text] == []


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in pages():
        named = re.findall(r"(?:^ {4}|`)make ([a-z]+)", page.read_text(), re.MULTILINE)
        assert set(named) <= targets, page


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("nas search laptop --engine ofa -o decode_ms", None),
        ("nas profile laptop -o table.json", None),
        ("nas serch laptop", "no command 'serch'"),
        ("nas search laptop --engin ofa", "no option --engin"),
        ("nas supernet trian laptop", "no command 'trian'"),
    ],
)
def test_wrong_commands_are_found(command: str, expected: str | None) -> None:
    found = problem(command)
    assert found is None if expected is None else expected in str(found)
