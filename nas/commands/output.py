"""What commands print: results on standard output, as lines, tables or JSON.

Texts may come from anywhere (names of studies, reasons of failures), so control characters are spelled out
and nothing is read as markup.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from foundation.text import harmless, one_line
from nas.streams import spelled

FILE_WIDTH = 200
"""Columns of a table where standard output is a file."""

GAP = 2
"""Blanks between two columns."""


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
    """Tables for people. Names in brackets are no markup.

    They are as wide as the terminal; where standard output is a file, as `COLUMNS` says, else wide.
    """
    asked = os.environ.get("COLUMNS", "")
    told = int(asked) if asked.isdecimal() and len(asked) < 5 else 0
    width = None if sys.stdout.isatty() else told or FILE_WIDTH
    return Console(highlight=False, markup=False, emoji=False, width=width)


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, wrapped: Collection[str] = ()) -> None:
    """A table of text. Nothing is cut: where it is too wide, the columns `wrapped` are broken at words.

    What is then still too wide, a terminal breaks.
    """
    cells = [[cell(text) for text in row] for row in (head, *rows)]
    columns = list(zip(*cells, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    least = [
        max(cell_len(word) for text in column for word in text.split() or [""]) if name in wrapped else width
        for name, column, width in zip(head, columns, widths, strict=True)
    ]
    console = output_console()
    excess = sum(widths) + GAP * (len(widths) - 1) - console.width
    while excess > 0 and widths != least:
        widest = max(range(len(widths)), key=lambda i: (widths[i] > least[i], widths[i]))
        widths[widest] -= 1
        excess -= 1
    console.width += max(excess, 0)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for name, width in zip(cells[0], widths, strict=True):
        table.add_column(name, width=width, overflow="fold")
    for row in cells[1:]:
        table.add_row(*row)
    console.print(table)
