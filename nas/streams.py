"""The standard streams: whatever they are connected to, a command does not end because of them.

A closed stream counts as one to /dev/null. A character that the encoding of a stream lacks is spelled in
others (`+/-` for ±). A terminal of no width, or of hardly any, is written to as if it had some. A reader that
has left (`nas front x | head -1`) ends a command quietly, as SIGPIPE would.
"""

from __future__ import annotations

import codecs
import os
import select
import shutil
import sys
from typing import NoReturn

from rich.console import Console

SPELLED = {
    "±": "+/-",
    "\N{MULTIPLICATION SIGN}": "x",
    "·": "*",
    "…": "...",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{MINUS SIGN}": "-",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "∞": "inf",
    "µ": "u",
    "²": "^2",
    "\N{LEFT SINGLE QUOTATION MARK}": "'",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "“": '"',
    "”": '"',
}
"""Characters of tables and messages in ASCII."""

ERRORS = "nas-spelled"

WIDTHS = (60, 1000)
"""Least and most columns to write: a narrower terminal breaks the lines itself."""


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(SPELLED.get(c) or ascii(c)[1:-1] for c in lacking), error.end


codecs.register_error(ERRORS, _spell)


def spelled(text: str, encoding: str | None) -> str:
    """A text as a stream of this encoding will show it."""
    encoding = encoding or "utf-8"
    return text.encode(encoding, ERRORS).decode(encoding)


def prepare_streams() -> None:
    """Make the standard streams of this process take any text, and open those that are closed to nothing."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # else the next file that is opened, a database perhaps, would get what is printed
            os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
        if hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors=ERRORS)
    Console.on_broken_pipe = _raise_it  # type: ignore[assignment,method-assign]
    _bound_width()


def _bound_width() -> None:
    """Keep tables readable; a width of 0 means that none is known."""
    if os.environ.get("COLUMNS") == "0":
        del os.environ["COLUMNS"]
    columns = shutil.get_terminal_size().columns
    bounded = min(max(columns, WIDTHS[0]), WIDTHS[1])
    if bounded != columns:
        os.environ["COLUMNS"] = str(bounded)


def _raise_it(console: Console) -> NoReturn:
    """Let a broken pipe rise: rich would end the process, and point standard output to nothing."""
    raise


def reader_has_left() -> bool:
    """Whether standard output is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(1, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
