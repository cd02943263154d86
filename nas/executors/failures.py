"""What a candidate can do to the process that scores it: anything it raises, told apart from a real signal.

A scorer runs code of others. It may raise what is meant to end a process (`SystemExit`, `KeyboardInterrupt`),
errors whose text cannot be printed, or is a megabyte long. All of that is the candidate's failure, in one
line. A signal that a person or a scheduler sent is not: it ends the search in good order, also where a scorer
swallowed what its handler raised.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` without enums: a tenth of the fastest trials
import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from foundation.errors import FileError, StoreError
from nas.signals import STOPS

MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of a disk, which no candidate is to blame for."""


def is_of_the_machine(error: BaseException) -> bool:
    """Whether an error is about the disk or the store, so that every other candidate would meet it too."""
    if isinstance(error, (FileError, StoreError)):
        return True
    return isinstance(error, OSError) and error.errno in MACHINE


@contextmanager
def watched_signals() -> Iterator[list[int]]:
    """The signals whose handlers raised in this time, so that what they raised is known for theirs."""
    received: list[int] = []
    ours: dict[int, tuple[Any, Any]] = {}
    if threading.current_thread() is threading.main_thread():
        for number in STOPS:
            handler = _signal.getsignal(number)
            if callable(handler):
                ours[number] = handler, _watching(handler, received)
                _signal.signal(number, ours[number][1])
    try:
        yield received
    finally:
        for number, (handler, watching) in ours.items():
            if _signal.getsignal(number) is watching:  # a handler may have set another one
                _signal.signal(number, handler)


def _watching(
    handler: Callable[[int, FrameType | None], Any], received: list[int]
) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        raised = True
        try:
            handler(number, frame)
            raised = False
        finally:
            if raised:
                received.append(number)

    return handle
