"""A pool of persistent Ray actors: each holds its scorers once, and scores batches of items.

Ray Tune starts an actor per trial, which costs seconds; here an item is a message. An actor that dies (a
killed process, a lost node, out of memory) is replaced, and what it was scoring is tried again, alone, on
another node where there is one; after `TRIES` it fails, with the reason. What takes longer than it may fails
at once. A cluster that is lost as a whole is waited for, and joined again.

Actors follow the cluster: those of a node that left wait for room, and where there is no number of workers,
there are as many as fit, also after nodes have joined.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import ray

from foundation.errors import ClusterError, SettingError
from foundation.text import count
from nas.executors.base import Executor, Outcome, Say, Scorer, WorkItem
from nas.executors.losses import cause, log_of, with_log
from nas.executors.ray_code import advice
from nas.executors.ray_session import Session
from nas.executors.ray_worker import Home
from nas.executors.retries import TRIES, Queue

CALLS_PER_ACTOR = 2
"""Calls in flight per actor: one being scored, one waiting, so that no actor idles."""

STARTS, REST_SECONDS = 3, 60.0
"""How often in a row an actor may die while it starts; then its place is given up, for so long."""

WARM_SECONDS = 60.0
"""How long to wait for all actors where some are there."""

LOOK_SECONDS = 2.0
"""How long to wait for an answer before looking whether the cluster is still there."""

FOLLOW_SECONDS = 5.0
"""How long between two looks at how many workers there is room for."""


@dataclass(eq=False)
class _Place:
    """The place of one actor in the pool, whichever fills it. Its first call asks for its home."""

    actor: Any = None
    home: Home | None = None
    calls: dict[Any, Sequence[WorkItem]] = field(default_factory=dict)
    """What the actor holds, the oldest first."""
    alone: bool = False
    """Whether it tries a suspect, and is sent nothing else."""
    failed_starts: int = 0
    since: float = 0.0
    """When the oldest of its calls began."""


class RayPool(Executor):
    """`workers` actors with `batch` items a call; `address` joins a cluster, else Ray starts here.

    Without a number of `workers` there are as many as there is room for. `gpus` is the share of a GPU that
    each actor holds; `timeout` is how many seconds one item may take before it fails (its actor is then
    replaced). `say` hears what happens to workers and cluster.

    Raises:
        SettingError: no cluster answers at `address`, there is no room for the actors, or `workers` is below
            one.
        ClusterError: Ray or the actors cannot start; later, the cluster was lost for good.
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
        say: Say = lambda line: None,
    ) -> None:
        if (workers is not None and workers < 1) or batch < 1:
            raise SettingError(f"workers and batch must be at least 1, got {workers} and {batch}")
        self._session = Session(scorers, wanted=workers, address=address, threads=threads, gpus=gpus, say=say)
        self._say, self._timeout, self._batch = say, timeout, batch
        self._places: list[_Place] = []
        self._calls: dict[Any, _Place] = {}
        self._queue = Queue(batch)
        self._given_up: list[float] = []
        self._next_look = time.monotonic() + FOLLOW_SECONDS
        with ExitStack() as stack:
            stack.callback(self.close)
            self._fill(self._session.open())
            self.warm_up()
            stack.pop_all()

    @property
    def capacity(self) -> int:
        """Items that the actors want to hold now."""
        return max(1, len(self._ready())) * CALLS_PER_ACTOR * self._batch

    def submit(self, items: Sequence[WorkItem]) -> None:
        """Queue items and send what the actors have room for."""
        self._queue.add(items)
        self._send()

    def collect(self, within: float = math.inf) -> list[Outcome]:
        """Wait for a call to come back; what was lost too often, or takes too long, comes back as failed.

        Raises:
            ClusterError: the cluster was lost for good, or actors can no longer start.
        """
        outcomes: list[Outcome] = []
        end = time.monotonic() + within
        while not outcomes:
            self._follow()
            self._send(flush=True)
            for call in self._wait(list(self._calls), end - time.monotonic()):
                outcomes += self._receive(call)
            outcomes += self._time_out()
            if time.monotonic() >= end:
                break
        return outcomes

    def warm_up(self) -> None:
        """Wait until every actor has its scorers, though not for ever where some have them.

        Raises:
            ClusterError: none can start, also not when tried again.
        """
        end = time.monotonic() + WARM_SECONDS
        while starting := [call for call, place in self._calls.items() if place.home is None]:
            for call in self._wait(starting):
                self._receive(call)
            if self._ready() and time.monotonic() > end:
                return

    def close(self) -> None:
        """Stop the actors, and Ray itself where it was started here."""
        self._session.close([place.actor for place in self._places])
        self._places = []

    def _ready(self) -> list[_Place]:
        return [place for place in self._places if place.home is not None]

    def _fill(self, actors: int) -> None:
        """Begin new places until there are so many."""
        while len(self._places) < actors:
            self._places.append(_Place())
            self._start(self._places[-1])

    def _start(self, place: _Place) -> None:
        """Put a new actor in a place."""
        place.actor, place.home, place.alone = self._session.actor(), None, False
        self._note(place, place.actor.home.remote(), ())

    def _send_to(self, place: _Place, items: Sequence[WorkItem]) -> None:
        if not place.calls:
            place.since = time.monotonic()
        self._note(place, place.actor.score.remote(items), items)

    def _note(self, place: _Place, call: Any, items: Sequence[WorkItem]) -> None:
        self._calls[call], place.calls[call] = place, items

    def _forget(self, place: _Place, call: Any) -> Sequence[WorkItem]:
        """The items of a call that is over."""
        del self._calls[call]
        return place.calls.pop(call)

    def _follow(self) -> None:
        """More places where nodes have joined, fewer where they have left; those given up, after a rest."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + FOLLOW_SECONDS
        self._given_up = [moment for moment in self._given_up if moment > time.monotonic() - REST_SECONDS]
        before, most = len(self._places), self._session.wanted_now() - len(self._given_up)
        self._fill(most)
        for place in [place for place in self._places if place.home is None][: len(self._places) - most]:
            self._drop(place)
        if len(self._places) != before:
            self._say(f"{count(len(self._places), 'Ray actor')} from now on, before {before}")

    def _drop(self, place: _Place) -> None:
        """Give up a place whose actor is not there."""
        for call in list(place.calls):
            self._forget(place, call)
        ray.kill(place.actor)
        self._places.remove(place)

    def _wait(self, calls: list[Any], most: float = math.inf) -> list[Any]:
        """Those that came back; none where an item's time is over, it is time to look around, or after `most`
        seconds.

        Raises:
            ClusterError: the cluster was lost for good.
        """
        patience = self._patience()
        seconds = max(0.0, min(patience, most))
        done, _ = ray.wait(calls, num_returns=1, timeout=seconds) if calls else ([], [])
        if done:
            more, _ = ray.wait(calls, num_returns=len(calls), timeout=0)
            return list(dict.fromkeys([*done, *more]))
        if patience <= most and not self._overdue() and self._session.lost():
            self._begin_again()
        return []

    def _begin_again(self) -> None:
        """After the loss of the whole cluster: its actors are new, and what they held is sent again.

        Raises:
            ClusterError: it does not come back.
        """
        held = [place.calls[call] for call, place in self._calls.items()]
        self._calls, self._places = {}, []
        self._queue.put_back(held)
        self._fill(self._session.reopen())

    def _patience(self) -> float:
        """Seconds until the cluster is looked for, or the first item's time is over."""
        ends = [place.since + limit for place, _, limit in self._timed()]
        return max(0.0, min([LOOK_SECONDS, *(end - time.monotonic() for end in ends)]))

    def _timed(self) -> list[tuple[_Place, Sequence[WorkItem], float]]:
        """What is being scored: the oldest call of each place, and how many seconds it may take."""
        if self._timeout is None:
            return []
        oldest = [(place, next(iter(place.calls.values()))) for place in self._ready() if place.calls]
        return [(place, items, self._timeout * len(items)) for place, items in oldest]

    def _overdue(self) -> list[tuple[_Place, Sequence[WorkItem]]]:
        now = time.monotonic()
        return [(place, items) for place, items, limit in self._timed() if now >= place.since + limit]

    def _send(self, flush: bool = False) -> None:
        """Send full batches to the least busy actors; with `flush`, also a last incomplete one.

        A suspect is sent first, to an actor that holds nothing else; until there is one, it empties itself.
        """
        kept = None
        while self._queue.suspect_waits and (kept := self._best_place(self._queue.avoided)):
            if kept.calls:
                break
            kept.alone = True
            self._send_to(kept, self._queue.take_suspect())
        while place := self._best_place(but=kept if self._queue.suspect_waits else None):
            if len(place.calls) >= CALLS_PER_ACTOR or not (items := self._queue.take_batch(flush)):
                return
            self._send_to(place, items)

    def _best_place(self, avoided: Collection[str] = (), but: _Place | None = None) -> _Place | None:
        """That of the least busy actor that tries no suspect, if possible on a node that is not avoided."""
        places = [place for place in self._ready() if place is not but and not place.alone]

        def less(place: _Place) -> tuple[bool, int]:
            assert place.home is not None
            return place.home.node in avoided, len(place.calls)

        return min(places, key=less, default=None)

    def _receive(self, call: Any) -> list[Outcome]:
        if call not in self._calls:  # taken back together with its lost actor
            return []
        place = self._calls[call]
        try:
            answer = ray.get(call)
        except ray.exceptions.RayError as error:
            return self._replace(place, error)
        items = self._forget(place, call)
        place.since, place.alone = time.monotonic(), False
        if place.home is None:
            place.home, place.failed_starts = answer, 0
            return []
        self._session.works()
        return self._judged(place, items, answer)

    def _judged(self, place: _Place, items: Sequence[WorkItem], answer: Sequence[Outcome]) -> list[Outcome]:
        """The outcomes of a call; items that another worker may have room for are tried again."""
        outcomes = []
        for item, outcome in zip(items, answer, strict=True):
            if outcome.out_of_memory and place.home and self._queue.lost(item, place.home.node):
                continue
            self._queue.ended(item)
            outcomes.append(outcome)
        return outcomes

    def _replace(self, place: _Place, error: BaseException) -> list[Outcome]:
        """Replace a lost actor. What it was scoring is tried again, alone; what waited behind is sent again.

        Raises:
            ClusterError: no actor can start, or the cluster was lost for good.
        """
        if self._session.lost():
            self._begin_again()
            return []
        why, home = cause(error), place.home
        if home is None:
            return self._not_started(place, why)
        self._next_look = 0.0  # its node may have left
        why = with_log(why, log_of(home.node, home.process))
        outcomes, calls = self._take_back(place)
        lost, behind = (calls[0], calls[1:]) if calls else ((), [])
        self._queue.put_back(behind)
        return outcomes + self._retried(lost, home, f"worker lost: {why}")

    def _not_started(self, place: _Place, why: str) -> list[Outcome]:
        """Try a place once more whose actor died as it started, or give it up where others are there.

        Raises:
            ClusterError: it is the last.
        """
        place.failed_starts += 1
        if place.failed_starts < STARTS:
            self._take_back(place)
            return []
        self._drop(place)
        self._given_up.append(time.monotonic())
        told = f"a worker cannot start, tried {STARTS} times: {advice(why)}"
        if not self._places:
            raise ClusterError(told)
        self._say(f"{told}; going on with {count(len(self._places), 'Ray actor')}")
        return []

    def _retried(self, items: Sequence[WorkItem], home: Home, reason: str) -> list[Outcome]:
        """Fail the items that were tried often enough; the others are to be tried alone."""
        failed = [item for item in items if not self._queue.lost(item, home.node)]
        return [Outcome(item.number, reason=f"{reason} (tried {TRIES} times)") for item in failed]

    def _time_out(self) -> list[Outcome]:
        """Fail what takes too long; of a batch, try each item once more, alone. Others are sent again."""
        outcomes: list[Outcome] = []
        for place, items in self._overdue():
            home = place.home
            done, calls = self._take_back(place)
            outcomes += done
            if home is None or items not in calls:  # it has come back just now
                self._queue.put_back(calls)
                continue
            self._queue.put_back(calls[1:])
            if len(items) == 1:
                self._queue.ended(items[0])
                outcomes.append(Outcome(items[0].number, reason=f"no answer within {self._timeout:g} s"))
            else:
                outcomes += self._retried(items, home, "")
        return outcomes

    def _take_back(self, place: _Place) -> tuple[list[Outcome], list[Sequence[WorkItem]]]:
        """A new actor in a place; what the old one had done, and the calls that it held, the oldest first."""
        outcomes: list[Outcome] = []
        held = []
        for call in list(place.calls):
            items = self._forget(place, call)
            answer = _answer(call) if items else []
            if answer is None:
                held.append(items)
            else:
                outcomes += self._judged(place, items, answer)
        ray.kill(place.actor)
        self._start(place)
        return outcomes, held


def _answer(call: Any) -> Sequence[Outcome] | None:
    """What a call came back with, if it did."""
    done, _ = ray.wait([call], timeout=0)
    try:
        return ray.get(call) if done else None
    except ray.exceptions.RayError:
        return None
