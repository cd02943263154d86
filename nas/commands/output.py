"""What commands print: results on standard output, as lines, tables or JSON.

Texts may come from anywhere (names of studies, reasons of failures), so control characters are spelled out
and nothing is read as markup.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

from foundation.text import harmless, one_line
from nas.streams import spelled

FILE_WIDTH = 200
"""Columns of a table where standard output is a file."""


def print_line(text: str) -> None:
    """A result, on standard output."""
    sys.stdout.write(harmless(text) + "\n")


def print_json(plain: Any) -> None:
    """Plain values, for programs."""
    print_line(json.dumps(plain, indent=2))


def print_note(text: str) -> None:
    """A line about a result, on standard error."""
    sys.stderr.write(one_line(text) + "\n")


def cell(text: Any) -> str:
    """A cell of a table: one line, in characters that standard output can show."""
    return spelled(one_line(str(text)), sys.stdout.encoding)


def output_console() -> Console:
    """Tables for people; wide where standard output is a file. Names in brackets are no markup."""
    width = None if sys.stdout.isatty() else FILE_WIDTH
    return Console(highlight=False, markup=False, width=width)
