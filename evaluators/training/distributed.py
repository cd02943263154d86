"""Train one supernet with several processes of this machine; see `evaluators.training.process_group`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from evaluators.supernet.training import FromSupernet
from evaluators.training.process_group import join
from foundation.errors import EvaluationFailed

LOOK_SECONDS = 0.1
MEETING = "meeting"


def train_together(
    evaluator: FromSupernet, count: int, prepare: Callable[[], Any] | None = None
) -> dict[str, Any]:
    """Train the supernet of `evaluator` with `count` processes, or go on from its checkpoint; how it went.

    Every process calls `prepare` first, which may import the blocks of a space of one's own. It and the
    evaluator are sent to fresh processes, so both must be plain.

    Raises:
        EvaluationFailed: a process ended before the training did; the others are stopped.
    """
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        arguments = [(rank, count, str(Path(folder) / MEETING), evaluator, prepare) for rank in range(count)]
        processes = [context.Process(target=_work, args=each, daemon=True) for each in arguments]
        for process in processes:
            process.start()
        try:
            _wait(processes)
        finally:
            for process in processes:
                process.terminate()
                process.join()
    return evaluator.train()


def _work(
    rank: int, count: int, meeting: str, evaluator: FromSupernet, prepare: Callable[[], Any] | None
) -> None:
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    if prepare is not None:
        prepare()
    with join(rank, count, meeting, device=evaluator.work.device) as workers:
        evaluator.train(workers=workers)


def _wait(processes: Sequence[BaseProcess]) -> None:
    """Until all have ended well, or one has not."""
    while any(process.is_alive() for process in processes):
        time.sleep(LOOK_SECONDS)
        _check(processes)
    _check(processes)


def _check(processes: Sequence[BaseProcess]) -> None:
    for rank, process in enumerate(processes):
        if process.exitcode:
            raise EvaluationFailed(f"worker {rank} of {len(processes)} ended with {process.exitcode}")
