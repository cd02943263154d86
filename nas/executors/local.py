"""The in-process executor: one task at a time, here. Deterministic, and nothing to start."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from nas.executors.base import Executor, Outcome, Scorer, Task, run_task


class InProcess(Executor):
    """Scores a task when its outcome is asked for."""

    capacity = 1

    def __init__(self, scorers: Mapping[str, Scorer]) -> None:
        self._scorers, self._waiting = scorers, deque[Task]()

    def submit(self, tasks: Sequence[Task]) -> None:
        """Queue tasks."""
        self._waiting.extend(tasks)

    def collect(self) -> list[Outcome]:
        """Score the task that has waited longest."""
        return [run_task(self._scorers, self._waiting.popleft())]
