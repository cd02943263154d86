"""How far reading a body of text is, told to whoever asked for it every few seconds.

with told_while_reading(print):
    load_corpus("texts")
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

TOLD_EVERY = 5.0
"""Seconds between two lines about the progress."""

Say: TypeAlias = Callable[[str], None]
_say: ContextVar[Say] = ContextVar("say", default=lambda line: None)


@contextmanager
def told_while_reading(say: Say) -> Iterator[None]:
    """Tell what is read inside, where that takes seconds, and what came of it."""
    token = _say.set(say)
    try:
        yield
    finally:
        _say.reset(token)


def say(line: str) -> None:
    """Tell a line to whoever asked for it."""
    _say.get()(line)


class Progress:
    """How much of `total` was done, told every few seconds; without a total, how many `units` were."""

    def __init__(self, what: str, total: int | None, units: str = "") -> None:
        self.what, self.total, self.units = what, total, units
        self.done, self.told = 0, time.monotonic()

    def add(self, count: int) -> None:
        """So much more."""
        self.done += count
        if time.monotonic() - self.told > TOLD_EVERY:
            self.told = time.monotonic()
            far = f"{100 * self.done / self.total:.0f} %" if self.total else f"{self.done:,} {self.units}"
            say(f"{self.what}: {far}")
