"""What commands print: results on standard output, as lines, tables or JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

FILE_WIDTH = 200
"""Columns of a table where standard output is a file."""


def print_line(text: str) -> None:
    """A result, on standard output."""
    sys.stdout.write(text + "\n")


def print_json(plain: Any) -> None:
    """Plain values, for programs."""
    print_line(json.dumps(plain, indent=2))


def output_console() -> Console:
    """Tables for people; wide where standard output is a file. Names in brackets are no markup."""
    width = None if sys.stdout.isatty() else FILE_WIDTH
    return Console(highlight=False, markup=False, width=width)
