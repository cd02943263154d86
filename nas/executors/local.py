"""The in-process executor: one work item at a time, here. Deterministic, and nothing to start."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

from nas.executors.base import Executor, Outcome, Scorer, WorkItem, score_item


class InProcess(Executor):
    """Scores an item when its outcome is asked for."""

    capacity = 1
    in_this_process = True

    def __init__(self, scorers: Mapping[str, Scorer]) -> None:
        self._scorers, self._waiting = scorers, deque[WorkItem]()

    def submit(self, items: Sequence[WorkItem]) -> None:
        """Queue items."""
        self._waiting.extend(items)

    def collect(self, within: float = math.inf) -> list[Outcome]:
        """Score the item that has waited longest, however long that takes."""
        return [score_item(self._scorers, self._waiting.popleft())]
