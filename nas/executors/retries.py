"""The items that wait for a worker: new ones, and suspects, whose worker was lost while it scored them.

Which item of a batch ended a worker is not known, so each is tried again alone, on another node where there
is one, and not for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nas.executors.base import WorkItem

TRIES = 3
"""How often an item is tried whose worker is lost, or that is out of memory."""


@dataclass
class _Suspect:
    """How often the worker of an item was lost, and on which nodes."""

    losses: int = 0
    nodes: set[str] = field(default_factory=set)


class Queue:
    """Items in the order in which they are to be sent, up to `batch` at a time."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._new: deque[WorkItem] = deque()
        self._alone: deque[WorkItem] = deque()
        self._suspects: dict[int, _Suspect] = {}

    def add(self, items: Iterable[WorkItem]) -> None:
        """Items that wait behind the others."""
        self._new.extend(items)

    def put_back(self, calls: Sequence[Sequence[WorkItem]]) -> None:
        """Items that were sent, and not begun, to the front of their kind, in their order."""
        for item in [item for items in reversed(calls) for item in reversed(items)]:
            (self._alone if self.is_suspect(item) else self._new).appendleft(item)

    def is_suspect(self, item: WorkItem) -> bool:
        """Whether a worker was lost while it scored this item."""
        return item.number in self._suspects

    def lost(self, item: WorkItem, node: str) -> bool:
        """A worker of this node was lost with an item: whether it is tried again."""
        suspect = self._suspects.setdefault(item.number, _Suspect())
        suspect.losses += 1
        suspect.nodes.add(node)
        if suspect.losses < TRIES:
            self._alone.append(item)
            return True
        self.ended(item)
        return False

    def ended(self, item: WorkItem) -> None:
        """An item has its outcome."""
        self._suspects.pop(item.number, None)

    @property
    def suspect_waits(self) -> bool:
        """Whether one is to be sent alone."""
        return bool(self._alone)

    @property
    def avoided(self) -> set[str]:
        """The nodes on which the workers of the next suspect were lost."""
        return self._suspects[self._alone[0].number].nodes if self._alone else set()

    def take_suspect(self) -> list[WorkItem]:
        """The next suspect."""
        return [self._alone.popleft()]

    def take_batch(self, flush: bool) -> list[WorkItem]:
        """The next batch of new items, if there is a whole one; with `flush`, also a smaller one."""
        if len(self._new) < self._batch and not flush:
            return []
        return [self._new.popleft() for _ in range(min(self._batch, len(self._new)))]
