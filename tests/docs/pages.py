"""The project's Markdown pages: their code blocks, links and command lines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FENCE = re.compile(r"^```(\w*)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
GENERATED = ("docs/reference/",)
"""Pages that `make docs` writes: absent in a fresh checkout."""


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block: its language, the file that it belongs to, if any, and its text."""

    language: str
    file: str
    text: str


def pages() -> list[Path]:
    """All Markdown pages that are part of the project."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md")]
    return sorted(page for page in found if not is_generated(page) or page.name == "README.md")


def is_generated(page: Path) -> bool:
    """Whether `make docs` writes the page."""
    return name_of(page).startswith(GENERATED)


def name_of(page: Path) -> str:
    """The page's path below the project's folder."""
    return page.relative_to(ROOT).as_posix()


def code_blocks(text: str) -> list[CodeBlock]:
    """The fenced blocks of a page, in order."""
    return [CodeBlock(*match) for match in FENCE.findall(text)]
