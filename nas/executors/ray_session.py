"""What a pool has of Ray: a cluster that it joined or started, scorers in its object store, and new actors.

A cluster that is lost (its head was restarted, or all nodes with room have left) is joined again when it
answers again, and a Ray of one's own is started anew: a few times in a row at most.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

from foundation.errors import ClusterError, SettingError
from nas.executors import cluster, ray_start
from nas.executors.base import Say, Scorer
from nas.executors.cluster import own_kinds
from nas.executors.ray_worker import Worker
from nas.executors.room import folder_of_files, require_room, room

LOST_LOOKS, LOST_SECONDS = 3, 1.0
"""How often to look before a cluster is given up, and how long between: its head may be restarting."""

REOPENINGS = 3
"""How often in a row, without a single outcome, a lost cluster is joined or started again."""

REOPEN_SECONDS = 60.0
"""How long a lost cluster is waited for."""


class Session:
    """Ray, as long as a pool needs it. `wanted` is the number of actors, None for as many as fit."""

    def __init__(
        self,
        scorers: Mapping[str, Scorer],
        *,
        wanted: int | None,
        address: str | None,
        threads: int,
        gpus: float,
        say: Say,
    ) -> None:
        self._own_scorers, self._wanted, self._address = scorers, wanted, address
        self._threads, self._gpus, self._say = threads, gpus, say
        self._folder: Path | None = None
        self._losses = self._opened = 0
        self._lost = False

    def open(self) -> int:
        """Join the cluster, or start Ray; how many actors there are to be.

        Raises:
            SettingError: no cluster answers, or there is no room for so many.
            ClusterError: Ray cannot start.
        """
        self._opened = require_room(self._wanted, self._threads, self._gpus, self._address)
        if not ray.is_initialized():
            self._folder = ray_start.start(self._opened * self._threads, folder_of_files())
        self._kinds, self._scorers = ray.put(own_kinds()), ray.put(self._own_scorers)
        self._make = ray.remote(num_cpus=self._threads, num_gpus=self._gpus)(Worker)
        return self._opened

    def actor(self) -> Any:
        """A new actor, which starts as soon as there is room."""
        return self._make.remote(self._kinds, self._scorers, self._threads)

    def wanted_now(self) -> int:
        """How many actors there are to be: where as many as fit are wanted of a cluster, that may change."""
        if self._wanted is not None or self._address is None:
            return self._opened
        return room(cluster.resources(), self._threads, self._gpus)

    def works(self) -> None:
        """An outcome came back, so the next loss is the first in a row."""
        self._losses = 0

    def lost(self) -> bool:
        """Whether the head is gone, or there is no room for a worker any more, also after some seconds."""
        for _ in range(LOST_LOOKS):
            if cluster.alive() and room(cluster.resources(), self._threads, self._gpus):
                return False
            time.sleep(LOST_SECONDS)
        return True

    def reopen(self) -> int:
        """Join a lost cluster again, or start another Ray of one's own; how many actors there are to be.

        Raises:
            ClusterError: it does not come back, was lost too often, or was joined by somebody else.
        """
        self._losses += 1
        where, own = cluster.head(), self._folder is not None
        lost = ClusterError(f"the Ray cluster at {where} was lost: its head or its nodes are gone")
        if self._losses > REOPENINGS or not (own or self._address):
            self._lost = True
            raise lost
        self._say(f"the Ray cluster at {where} was lost: {'starting another' if own else 'waiting for it'}")
        self._leave()
        end = time.monotonic() + REOPEN_SECONDS
        while True:
            try:
                return self.open()
            except (SettingError, ClusterError):
                if time.monotonic() > end:
                    raise lost from None
                time.sleep(LOST_SECONDS)

    def close(self, actors: Sequence[Any]) -> None:
        """Stop these actors, and Ray itself where it was started here."""
        if not self._lost and ray.is_initialized():
            for actor in actors:
                ray.kill(actor)
        if self._lost or self._folder is not None:  # Ray ends a process that stays in a lost cluster
            self._leave()

    def _leave(self) -> None:
        if self._folder is None:
            ray.shutdown()
        else:
            ray_start.end(self._folder)
            self._folder = None
