"""When a strategy hears of outcomes: at once, or, where it is slower than the workers, of several together.

The first proposal after news may take a model longer than workers take for a candidate. They would wait for
it most of the time. So while some of them are busy, outcomes are held back until the time that proposals have
taken since the strategy last heard is at most `SHARE` of the time that has passed. A slow evaluator's
outcomes are heard at once, and so are those of a single worker, who waits for nobody.

That depends on the clock, and what follows does not: each trial has on record how many outcomes had been
heard when it was proposed.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from nas.executors.base import Executor, Outcome, WorkItem

SHARE = 0.1
"""Of the time that passes, what the proposals of a strategy that is slow after news may take."""


class Ended(NamedTuple):
    """An outcome, and when it came (seconds since 1970)."""

    outcome: Outcome
    when: float


class Pace:
    """Between an executor and a strategy, which is `slow` after news or not."""

    def __init__(
        self, executor: Executor, *, slow: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._executor, self._slow, self._clock = executor, slow, clock
        self._held = deque[Ended]()
        self._at_work = 0  # items that the executor has
        self._spent, self._heard = 0.0, self._clock()

    @property
    def held(self) -> int:
        """Outcomes that are held back."""
        return len(self._held)

    @contextmanager
    def proposing(self) -> Iterator[None]:
        """Where the strategy proposes."""
        begun = self._clock()
        yield
        self._spent += self._clock() - begun

    def submit(self, items: Sequence[WorkItem]) -> None:
        """Hand items to the executor."""
        self._executor.submit(items)
        self._at_work += len(items)

    def collect(self) -> Iterator[Ended]:
        """Wait for outcomes, and give those to be heard now: all that are held, or none."""
        if self._at_work or not self._held:
            came = self._executor.collect(self._left() if self._held else math.inf)
            self._at_work -= len(came)
            now = time.time()
            self._held.extend(Ended(outcome, now) for outcome in came)
        return iter(()) if self._slow and self._at_work and self._left() > 0 else self.take()

    def take(self) -> Iterator[Ended]:
        """What is held back, which is to be heard now, one by one."""
        if self._held:
            self._spent, self._heard = 0.0, self._clock()
        while self._held:
            yield self._held.popleft()

    def _left(self) -> float:
        """Seconds until outcomes may be heard."""
        return max(0.0, self._heard + self._spent / SHARE - self._clock())
