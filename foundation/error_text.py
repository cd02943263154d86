"""An error of somebody else's code as one printable line: it may say anything, at any length, or raise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from foundation.errors import NasError

LONGEST = 300
"""Characters of a reason."""

_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)?")


def cut_line(text: str, most: int = LONGEST) -> str:
    """Text as one line of at most so many characters, without control characters and colours."""
    plain = _ESCAPES.sub("", text[: 10 * most])
    plain = " ".join("".join(c if c.isprintable() else " " for c in plain).split())
    return plain if len(plain) <= most and len(text) <= 10 * most else f"{plain[: most - 4].rstrip()} ..."


def told(error: BaseException, kind: bool = True, most: int = LONGEST) -> str:
    """An error in one line, whatever its text does; with `kind`, after the name of its class."""
    try:
        text = str(error)
    except BaseException as second:  # its text is code of others, too
        text = f"(its text raises {type(second).__name__})"
    name = type(error).__name__
    if not text:
        return cut_line(name, most)
    return cut_line(f"{name}: {text}" if kind else text, most)


@contextmanager
def refused_as(kind: type[NasError], what: str) -> Iterator[None]:
    """Whatever another library's compiler raises inside becomes an error of this kind, in one line."""
    try:
        yield
    except NasError:
        raise
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # compilers wrap what went wrong in advice
            cause = cause.__cause__
        raise kind(f"{what}: {told(cause)}") from error
