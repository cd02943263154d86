"""The words that this command was given, for what tells how to go on with it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

PASSWORD = re.compile(r"(://[^:/@]*):[^@/]*@")
"""The password in the URL of a store."""

_words: list[str] = []


def note_words(words: Sequence[str]) -> None:
    """Remember the words behind `nas`."""
    _words[:] = words


def command_line() -> str:
    """The command as it can be typed again; passwords in URLs are left out, and asterisks stand for them."""
    return shlex.join(["nas", *(PASSWORD.sub(r"\1:***@", word) for word in _words if word != "--force")])
