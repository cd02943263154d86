"""A pool of persistent Ray actors: each holds its scorers once, and scores batches of items.

Ray Tune starts an actor per trial, which costs seconds; here an item is a message. An actor that dies (a
killed process, a lost node, out of memory) is replaced, and its items are tried once more, each alone; an
item whose worker is lost twice fails, with the reason. So does one that takes longer than it may.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch

from foundation.errors import ClusterError, SettingError
from nas.executors import cluster, ray_start
from nas.executors.base import Executor, Outcome, Scorer, WorkItem, score_item, worker_name
from nas.executors.cluster import Kinds, cause, own_kinds, register
from nas.executors.room import folder_of_files, require_room, room

CALLS_PER_ACTOR = 2
"""Calls in flight per actor: one being scored, one waiting, so that no actor idles."""

STARTS = 3
"""How often in a row an actor may die while it starts."""

LOOK_SECONDS = 2.0
"""How long to wait for an answer before looking whether the cluster is still there."""

LOST_LOOKS, LOST_SECONDS = 3, 1.0
"""How often to look before a cluster is given up, and how long between: its head may be restarting."""


class _Worker:
    """What lives in an actor."""

    def __init__(self, kinds: Kinds, scorers: Mapping[str, Scorer], threads: int) -> None:
        register(kinds)
        torch.set_num_threads(threads)
        self._scorers, self._name = scorers, worker_name()

    def score(self, items: Sequence[WorkItem]) -> list[Outcome]:
        return [score_item(self._scorers, item, self._name) for item in items]


@dataclass(eq=False)
class _Place:
    """The place of one actor in the pool, whichever fills it. Its first call, of no items, waits for it."""

    actor: Any = None
    ready: bool = False
    failed_starts: int = 0
    since: float = 0.0
    """When the oldest of its calls began."""


class RayPool(Executor):
    """`workers` actors with `batch` items a call; `address` joins a cluster, else Ray starts here.

    Without a number of `workers` there are as many as there is room for.

    `gpus` is the share of a GPU that each actor holds; `timeout` is how many seconds one item may take before
    it fails (its actor is then replaced).

    Raises:
        SettingError: no cluster answers at `address`, there is no room for the actors, or `workers` is below
            one.
        ClusterError: Ray or the actors cannot start; later, the cluster was lost.
    """

    def __init__(
        self,
        scorers: Mapping[str, Scorer],
        *,
        workers: int | None,
        address: str | None = None,
        batch: int = 1,
        threads: int = 1,
        gpus: float = 0.0,
        timeout: float | None = None,
    ) -> None:
        if (workers is not None and workers < 1) or batch < 1:
            raise SettingError(f"workers and batch must be at least 1, got {workers} and {batch}")
        workers = require_room(workers, threads, gpus, address)
        self._folder: Path | None = None
        if not ray.is_initialized():
            self._folder = ray_start.start(workers * threads, folder_of_files())
        self._kinds, self._scorers = ray.put(own_kinds()), ray.put(scorers)
        self._make = ray.remote(num_cpus=threads, num_gpus=gpus)(_Worker)
        self._threads, self._gpus = threads, gpus
        self._timeout, self._batch = timeout, batch
        self._places: list[_Place] = []
        self._calls: dict[Any, tuple[_Place, Sequence[WorkItem]]] = {}
        self._waiting: deque[WorkItem] = deque()
        self._suspects: set[int] = set()
        self._lost = False
        self.capacity = workers * CALLS_PER_ACTOR * batch
        with ExitStack() as stack:
            stack.callback(self.close)
            for _ in range(workers):
                self._places.append(_Place())
                self._start(self._places[-1])
            self.warm_up()
            stack.pop_all()

    def submit(self, items: Sequence[WorkItem]) -> None:
        """Queue items and send what the actors have room for."""
        self._waiting.extend(items)
        self._send()

    def collect(self) -> list[Outcome]:
        """Wait for a call to come back; a lost actor or a time-out comes back as failed items.

        Raises:
            ClusterError: the cluster was lost, or actors can no longer start.
        """
        outcomes: list[Outcome] = []
        while not outcomes:
            self._send(flush=True)
            for call in self._wait(list(self._calls)):
                outcomes += self._receive(call)
            outcomes += self._time_out()
        return outcomes

    def warm_up(self) -> None:
        """Wait until every actor has its scorers.

        Raises:
            ClusterError: one cannot start, also not when tried again.
        """
        while starting := [call for call, (place, _) in self._calls.items() if not place.ready]:
            for call in self._wait(starting):
                self._receive(call)

    def close(self) -> None:
        """Stop the actors, and Ray itself where it was started here."""
        if not self._lost:
            for place in self._places:
                ray.kill(place.actor)
        if self._folder is not None:
            ray_start.end(self._folder)
            self._folder = None
        elif self._lost:  # Ray ends a process that stays in a lost cluster
            ray.shutdown()
        self._places = []

    def _start(self, place: _Place) -> None:
        """Put a new actor in a place."""
        place.actor = self._make.remote(self._kinds, self._scorers, self._threads)
        place.ready = False
        self._call(place, [])

    def _call(self, place: _Place, items: Sequence[WorkItem]) -> None:
        if not any(other is place for other, _ in self._calls.values()):
            place.since = time.monotonic()
        self._calls[place.actor.score.remote(items)] = (place, items)

    def _wait(self, calls: list[Any]) -> list[Any]:
        """Those that came back, at least one unless an item's time is over.

        Raises:
            ClusterError: the cluster was lost.
        """
        while True:
            done, _ = ray.wait(calls, num_returns=1, timeout=self._patience())
            if done:
                more, _ = ray.wait(calls, num_returns=len(calls), timeout=0)
                return list(dict.fromkeys([*done, *more]))
            if self._overdue():
                return []
            self._require_cluster()

    def _require_cluster(self) -> None:
        """Raise `ClusterError` where the head is gone, or there is no room for a worker any more."""
        for _ in range(LOST_LOOKS):
            if cluster.alive() and room(cluster.resources(), self._threads, self._gpus):
                return
            time.sleep(LOST_SECONDS)
        self._lost = True
        raise ClusterError(f"the Ray cluster at {cluster.head()} was lost: its head or its nodes are gone")

    def _patience(self) -> float:
        """Seconds until the cluster is looked for, or the first item's time is over."""
        ends = [place.since + limit for place, _, limit in self._timed()]
        return max(0.0, min([LOOK_SECONDS, *(end - time.monotonic() for end in ends)]))

    def _timed(self) -> list[tuple[_Place, Sequence[WorkItem], float]]:
        """What is being scored: the oldest call of each place, and how many seconds it may take."""
        if self._timeout is None:
            return []
        oldest: dict[int, tuple[_Place, Sequence[WorkItem]]] = {}
        for place, items in self._calls.values():
            oldest.setdefault(id(place), (place, items))
        return [(place, items, self._timeout * len(items)) for place, items in oldest.values() if items]

    def _overdue(self) -> list[tuple[_Place, Sequence[WorkItem]]]:
        now = time.monotonic()
        return [(place, items) for place, items, limit in self._timed() if now >= place.since + limit]

    def _send(self, flush: bool = False) -> None:
        """Send full batches to the least busy actors; with `flush`, also a last incomplete one."""
        while self._waiting:
            suspect = self._waiting[0].number in self._suspects
            if not suspect and not flush and len(self._waiting) < self._batch:
                return
            place = self._free_place(0 if suspect else CALLS_PER_ACTOR - 1)
            if place is None:
                return
            items = [self._waiting.popleft()]
            while not suspect and self._waiting and len(items) < self._batch:
                if self._waiting[0].number in self._suspects:
                    break
                items.append(self._waiting.popleft())
            self._call(place, items)

    def _free_place(self, most_held: int) -> _Place | None:
        """That of the least busy actor, if it holds at most so many calls; none that tries a suspect."""
        held = {id(place): 0 for place in self._places}
        for place, items in self._calls.values():
            if items:
                held[id(place)] += CALLS_PER_ACTOR + 1 if items[0].number in self._suspects else 1
        place = min(self._places, key=lambda place: held[id(place)])
        return place if held[id(place)] <= most_held else None

    def _receive(self, call: Any) -> list[Outcome]:
        if call not in self._calls:  # taken back together with its lost actor
            return []
        place, _ = self._calls[call]
        try:
            outcomes: list[Outcome] = ray.get(call)
        except ray.exceptions.RayError as error:
            return self._replace(place, cause(error))
        del self._calls[call]
        place.ready, place.failed_starts, place.since = True, 0, time.monotonic()
        return outcomes

    def _replace(self, place: _Place, why: str) -> list[Outcome]:
        """Replace a lost actor. Which of its items killed it is not known: each is tried once more, alone.

        Raises:
            ClusterError: it did not even start, as others before it, or the cluster was lost.
        """
        self._require_cluster()
        if place.ready:
            return self._retried(self._take_back(place), f"worker lost: {why}")
        place.failed_starts += 1
        if place.failed_starts == STARTS:
            raise ClusterError(f"a worker cannot start, tried {STARTS} times: {why}")
        self._put_back(self._take_back(place))
        return []

    def _retried(self, calls: Sequence[Sequence[WorkItem]], reason: str) -> list[Outcome]:
        """Fail the items that were tried alone already; the others are to be."""
        items = [item for items in calls for item in items]
        self._put_back([[item for item in items if item.number not in self._suspects]])
        failed = [item for item in items if item.number in self._suspects]
        self._suspects.update(item.number for item in items)
        return [Outcome(item.number, reason=reason) for item in failed]

    def _time_out(self) -> list[Outcome]:
        """Fail what takes too long; of a batch, try each item once more, alone. Others are sent again."""
        outcomes: list[Outcome] = []
        for place, items in self._overdue():
            _, *behind = self._take_back(place)
            self._put_back(behind)
            if len(items) == 1:
                self._suspects.add(items[0].number)
            outcomes += self._retried([items], f"no answer within {self._timeout:g} s")
        return outcomes

    def _put_back(self, calls: Sequence[Sequence[WorkItem]]) -> None:
        """Items to the front of those that wait, in their order."""
        self._waiting.extendleft(item for items in reversed(calls) for item in reversed(items))

    def _take_back(self, place: _Place) -> list[Sequence[WorkItem]]:
        """A new actor in a place; the calls that the old one held, the oldest first."""
        calls = [call for call, (other, _) in self._calls.items() if other is place]
        held = [self._calls.pop(call)[1] for call in calls]
        ray.kill(place.actor)
        self._start(place)
        return [items for items in held if items]
