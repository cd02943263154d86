"""Asking before what takes very long: a question at a terminal, elsewhere a refusal with the estimate."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

import typer

from foundation.errors import ConsentNeeded, SettingError

T = TypeVar("T")


def with_consent(begin: Callable[[bool], T], yes: bool) -> T:
    """What `begin` returns, which is told whether there is consent; it is asked for where it is needed.

    Raises:
        ConsentNeeded: there is no terminal to ask at.
        SettingError: the answer was no.
    """
    try:
        return begin(yes)
    except ConsentNeeded as needed:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
        if not typer.confirm(f"{needed.estimate}. Begin?", err=True):
            raise SettingError("nothing was begun") from None
    return begin(True)
