"""Ctrl-C between two steps: what was learned is saved first.

In the middle of a step weights and optimizer do not fit each other, so an interruption waits for its end. A
second one does not wait.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def between_steps(*, held: bool = True) -> Iterator[Callable[[], bool]]:
    """Meanwhile Ctrl-C is only noted; what is yielded says whether it came. At the end it is let through.

    Nothing is held back in threads other than the main one, which hear no signals, nor where it is ignored.
    """
    before = signal.getsignal(signal.SIGINT)
    if not held or not callable(before) or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    heard: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if heard:
            before(number, frame)
        heard.append(number)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(heard)
    finally:
        signal.signal(signal.SIGINT, before)
    if heard:
        signal.raise_signal(signal.SIGINT)
