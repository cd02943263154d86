"""What lives in a Ray actor: scorers that are held once, and what the pool must know of where they live."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import ray
import torch

from nas.executors.base import Outcome, Scorer, WorkItem, score_item, worker_name
from nas.executors.cluster import Kinds, register


class Home(NamedTuple):
    """Where an actor lives: its node, by Ray's name and by its own, and its process there."""

    node: str
    host: str
    process: int


class Worker:
    """Scores batches of items."""

    def __init__(self, kinds: Kinds, scorers: Mapping[str, Scorer], threads: int) -> None:
        register(kinds)
        torch.set_num_threads(threads)
        self._scorers, self._name = scorers, worker_name()

    def home(self) -> Home:
        """Where this is; the first thing that it is asked, once it is there."""
        return Home(ray.get_runtime_context().get_node_id(), platform.node(), os.getpid())

    def score(self, items: Sequence[WorkItem]) -> list[Outcome]:
        """The outcome of each item."""
        return [score_item(self._scorers, item, self._name) for item in items]
