"""A pool of persistent Ray actors: each holds its scorers once, and scores batches of items.

Ray Tune starts an actor per trial, which costs seconds; here an item is a message. An actor that dies (a
killed process, a lost node, out of memory) is replaced, and its items are tried once more, each alone; an
item whose worker is lost twice fails, with the reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import ray
import torch

from foundation.errors import EvaluationFailed, SettingError
from nas.executors.base import Executor, Outcome, Scorer, WorkItem, score_item, worker_name
from nas.executors.cluster import Kinds, cause, connect, own_kinds, register

CALLS_PER_ACTOR = 2
"""Calls in flight per actor: one being scored, one waiting, so that no actor idles."""


class _Worker:
    """What lives in an actor."""

    def __init__(self, kinds: Kinds, scorers: Mapping[str, Scorer], threads: int) -> None:
        register(kinds)
        torch.set_num_threads(threads)
        self._scorers, self._name = scorers, worker_name()

    def score(self, items: Sequence[WorkItem]) -> list[Outcome]:
        return [score_item(self._scorers, item, self._name) for item in items]


class RayPool(Executor):
    """`workers` actors with `batch` items a call; `address` joins a cluster, else Ray starts here.

    `gpus` is the share of a GPU that each actor holds; `item_seconds` is how long one item may take before it
    fails with a time-out (its actor is then replaced).

    Raises:
        SettingError: no cluster answers at `address`, there is no room for the actors here, or `workers` is
            below one.
        EvaluationFailed: the actors cannot start.
    """

    def __init__(
        self,
        scorers: Mapping[str, Scorer],
        *,
        workers: int,
        address: str | None = None,
        batch: int = 1,
        threads: int = 1,
        gpus: float = 0.0,
        item_seconds: float | None = None,
    ) -> None:
        if workers < 1 or batch < 1:
            raise SettingError(f"workers and batch must be at least 1, got {workers} and {batch}")
        self._started = connect(address, workers * threads)
        self._actors: list[Any] = []
        if address is None:
            self._require_room(CPU=workers * threads, GPU=workers * gpus)
        self._kinds, self._scorers = ray.put(own_kinds()), ray.put(scorers)
        self._make = ray.remote(num_cpus=threads, num_gpus=gpus)(_Worker)
        self._threads, self._seconds = threads, item_seconds
        self._batch = batch
        self._calls: dict[Any, tuple[int, Sequence[WorkItem]]] = {}
        self._waiting: deque[WorkItem] = deque()
        self._lost: set[int] = set()
        self._actors += [self._actor() for _ in range(workers)]
        self.capacity = workers * CALLS_PER_ACTOR * batch
        self.warm_up()

    def submit(self, items: Sequence[WorkItem]) -> None:
        """Queue items and send what the actors have room for."""
        self._waiting.extend(items)
        self._send()

    def collect(self) -> list[Outcome]:
        """Wait for a call to come back; a lost actor or a time-out comes back as failed items."""
        self._send(flush=True)
        limit = self._seconds * self._batch * CALLS_PER_ACTOR if self._seconds else None
        done, _ = ray.wait(list(self._calls), num_returns=1, timeout=limit)
        if not done:
            return self._time_out(f"no answer within {limit:g} s")
        more, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        outcomes: list[Outcome] = []
        for call in dict.fromkeys([*done, *more]):
            outcomes += self._receive(call)
        return outcomes

    def warm_up(self) -> None:
        """Wait until every actor has its scorers."""
        try:
            ray.get([actor.score.remote([]) for actor in self._actors])
        except ray.exceptions.RayError as error:
            self.close()
            raise EvaluationFailed(f"a worker cannot start: {cause(error)}") from None

    def close(self) -> None:
        """Stop the actors, and Ray itself where it was started here."""
        for actor in self._actors:
            ray.kill(actor)
        if self._started:
            ray.shutdown()

    def _require_room(self, **wanted: float) -> None:
        """Refuse what Ray would wait for in vain: processors that this machine does not have."""
        there = ray.cluster_resources()
        for kind, amount in wanted.items():
            if amount > there.get(kind, 0.0):
                self.close()
                raise SettingError(
                    f"the workers need {amount:g} {kind}s, and Ray has {there.get(kind, 0.0):g} here"
                )

    def _actor(self) -> Any:
        return self._make.remote(self._kinds, self._scorers, self._threads)

    def _send(self, flush: bool = False) -> None:
        """Send full batches to the least busy actors; with `flush`, also a last incomplete one."""
        while self._waiting:
            suspect = self._waiting[0].number in self._lost
            if not suspect and not flush and len(self._waiting) < self._batch:
                return
            index = self._free_actor(0 if suspect else CALLS_PER_ACTOR - 1)
            if index is None:
                return
            items = [self._waiting.popleft()]
            while not suspect and self._waiting and len(items) < self._batch:
                if self._waiting[0].number in self._lost:
                    break
                items.append(self._waiting.popleft())
            self._calls[self._actors[index].score.remote(items)] = (index, items)

    def _free_actor(self, most_held: int) -> int | None:
        """The least busy actor, if it holds at most so many calls; none that tries a suspect."""
        held = [0] * len(self._actors)
        for index, items in self._calls.values():
            held[index] += CALLS_PER_ACTOR + 1 if items[0].number in self._lost else 1
        index = min(range(len(held)), key=held.__getitem__)
        return index if held[index] <= most_held else None

    def _receive(self, call: Any) -> list[Outcome]:
        if call not in self._calls:  # taken back together with its lost actor
            return []
        index, _ = self._calls[call]
        try:
            outcomes: list[Outcome] = ray.get(call)
        except ray.exceptions.RayError as error:
            return self._replace(index, cause(error))
        del self._calls[call]
        return outcomes

    def _replace(self, index: int, why: str) -> list[Outcome]:
        """Replace a lost actor. Which of its items killed it is not known: each is tried once more, alone."""
        outcomes: list[Outcome] = []
        for items in reversed(self._take_back(index)):
            for item in reversed(items):
                if item.number in self._lost:
                    outcomes += _failed([item], f"worker lost: {why}")
                else:
                    self._waiting.appendleft(item)
                self._lost.add(item.number)
        return outcomes

    def _time_out(self, reason: str) -> list[Outcome]:
        """Fail what is being scored, and send again what only waited behind it."""
        outcomes: list[Outcome] = []
        for index in sorted({index for index, _ in self._calls.values()}):
            running, *behind = self._take_back(index)
            outcomes += _failed(running, reason)
            for items in reversed(behind):
                self._waiting.extendleft(reversed(items))
        return outcomes

    def _take_back(self, index: int) -> list[Sequence[WorkItem]]:
        """A new actor in the place of one; the calls that the old one held, the oldest first."""
        calls = [call for call, (actor, _) in self._calls.items() if actor == index]
        held = [self._calls.pop(call)[1] for call in calls]
        ray.kill(self._actors[index])
        self._actors[index] = self._actor()
        if self._seconds:  # starting up must not count as the time of an item
            ray.get(self._actors[index].score.remote([]))
        return held


def _failed(items: Sequence[WorkItem], reason: str) -> list[Outcome]:
    return [Outcome(item.number, reason=reason) for item in items]
