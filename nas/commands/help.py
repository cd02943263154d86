"""The help of commands: its paragraphs flow into the width of the terminal."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import typer


def flow_help(app: typer.Typer) -> None:
    """Take the line breaks of their docstrings out of the help of all commands, also of groups."""
    for command in app.registered_commands:
        command.help = flowing(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            flow_help(group.typer_instance)


def flowing(command: Callable[..., Any] | None) -> str | None:
    """A docstring with one line for each paragraph."""
    text = inspect.getdoc(command) if command is not None else None
    return text and "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
