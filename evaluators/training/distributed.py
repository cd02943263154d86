"""A training in several processes of this machine; see `evaluators.training.process_group`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

import torch

from evaluators.training.process_group import ProcessGroup, join
from foundation.errors import EvaluationFailed

POLL_SECONDS = 0.1
RENDEZVOUS = "rendezvous"


class Train(Protocol):
    """What every process runs."""

    def __call__(self, *, process_group: ProcessGroup) -> Any:
        """Train as this process of the group."""


def train_distributed(
    train: Train, count: int, *, device: str = "cpu", prepare: Callable[[], Any] | None = None
) -> None:
    """Run `train` in `count` processes of this machine, which share each batch.

    Every process calls `prepare` first, which may import the blocks of a user's space. It and `train` are
    pickled and sent to fresh processes, so both must be made of plain values.

    Raises:
        EvaluationFailed: a process ended before the training did; the others are stopped.
    """
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        group = _Group(count, str(Path(folder) / RENDEZVOUS), device, prepare)
        processes = [
            context.Process(target=_run, args=(train, group, rank), daemon=True) for rank in range(count)
        ]
        for process in processes:
            process.start()
        try:
            _wait(processes)
        finally:
            for process in processes:
                process.terminate()
                process.join()


@dataclass(frozen=True)
class _Group:
    """What every process is given to join the others: how many they are, and the file where they meet."""

    count: int
    rendezvous: str
    device: str
    prepare: Callable[[], Any] | None


def _run(train: Train, group: _Group, rank: int) -> None:
    torch.set_num_threads(max(1, torch.get_num_threads() // group.count))
    if group.prepare is not None:
        group.prepare()
    with join(rank, group.count, group.rendezvous, device=group.device) as process_group:
        train(process_group=process_group)


def _wait(processes: Sequence[BaseProcess]) -> None:
    """Return when all have ended well; raise when a process has not."""
    while any(process.is_alive() for process in processes):
        time.sleep(POLL_SECONDS)
        _check(processes)
    _check(processes)


def _check(processes: Sequence[BaseProcess]) -> None:
    for rank, process in enumerate(processes):
        if process.exitcode:
            raise EvaluationFailed(f"process {rank} of {len(processes)} ended with {process.exitcode}")
