"""Runs what a page shows, as its reader would: files, commands and programs, each in a process of its own.

In small form: with few trials and steps, and short texts. What else a command or a program says is kept.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from foundation.settings import describe
from nas.study.plan import Plan
from tests.docs.pages import CodeBlock
from tests.forks import Ended, Fork, run_main

SMALL: dict[str, float] = {
    "trials": 4,
    "finalists": 0,
    "profile_seconds": 0.0,
    "train_steps": 2,
    "train_batch": 2,
    "window": 8,
    "validation_windows": 4,
}
"""Settings of a small search."""


def small_command(line: str) -> list[str]:
    """The words of a command that is shown, made small where it searches."""
    program, *words = shlex.split(line)
    assert program == "nas", line
    if words[0] == "resume":
        return _with_options(words, {"trials": 6})
    if words[0] != "search":
        return words
    return [*_with_options(words, SMALL), "--scenario", "prompt=8,new_tokens=4"]


def _with_options(words: Sequence[str], settings: dict[str, float]) -> list[str]:
    options = {described.name: f"--{described.option.replace('_', '-')}" for described in describe(Plan)}
    kept = list(words)
    for name, value in settings.items():
        if (option := options[name]) in kept:
            del kept[kept.index(option) : kept.index(option) + 2]
        kept += [option, f"{value:g}"]
    return kept


def small_program(text: str) -> str:
    """A program that is shown, with small settings in its searches."""
    given = "".join(f", {name}={value}" for name, value in SMALL.items())
    text = re.sub(r",?\s*(trials|finalists)=\d+", "", text)
    return re.sub(r"(nas\.search\(\s*space)", rf"\1{given}", text)


def run_shown(block: CodeBlock, folder: Path, *, seconds: float = 120.0) -> list[Ended]:
    """Run a code block in a folder; how its processes ended."""
    if block.file:
        (folder / block.file).write_text(block.text)
        return []
    if block.language == "sh":
        lines = [small_command(line) for line in block.text.splitlines()]
        return [Fork(_command, str(folder), words).wait(seconds) for words in lines]
    return [run_program(small_program(block.text), folder, seconds=seconds)]


def run_program(text: str, folder: Path, *, seconds: float) -> Ended:
    """Run a program in a folder, as it is; how it ended."""
    (folder / "program.py").write_text(text)
    return Fork(_program, str(folder), "program.py").wait(seconds)


def _command(folder: str, words: Sequence[str]) -> None:
    os.chdir(folder)
    run_main(tuple(words))


def _program(folder: str, name: str) -> None:
    os.chdir(folder)
    sys.path.insert(0, folder)
    runpy.run_path(name, run_name="__main__")
