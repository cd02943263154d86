"""A training in several processes of this machine; see `evaluators.training.process_group`."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch

from evaluators.training.process_group import ProcessGroup, join
from foundation.errors import EvaluationFailed, NasError, SettingError
from foundation.wording import argument
from search_spaces.devices import count_here, on_cuda, told_here

RENDEZVOUS = "rendezvous"

OnStep: TypeAlias = Callable[[int, float], None]
"""Called with the number of each step and its loss."""


class Train(Protocol):
    """What every process runs."""

    def __call__(self, on_step: OnStep | None, *, process_group: ProcessGroup) -> Any:
        """Train as this process of the group."""


def check_processes(count: int, device: str, batch: int | None = None, *, asked: str = "") -> None:
    """Raise `SettingError` unless each of `count` processes can have a processor of its own, and a row.

    `batch` is the number of rows that they share; `asked` is how a user asked for so many processes.
    """
    if count == 1:
        return
    given = asked or argument("processes", count)
    if on_cuda(device) and device != "cuda":
        raise SettingError(
            f"{given}: each process trains on its own GPU, so the device is cuda, not {device}"
        )
    wrong = []
    if count > count_here(device):
        kind = "GPU" if on_cuda(device) else "CPU"
        wrong.append(f"each process needs a {kind} of its own, and {told_here(device)}")
    if batch is not None and batch < count:
        wrong.append(f"a batch of {batch} rows cannot be shared by {count} processes")
    if wrong:
        raise SettingError(f"{given}: {'; '.join(wrong)}")


def train_distributed(
    train: Train,
    count: int,
    *,
    device: str = "cpu",
    prepare: Callable[[], Any] | None = None,
    on_step: OnStep | None = None,
    share_cpus: bool = False,
) -> None:
    """Run `train` in `count` processes of this machine, which share each batch; each has its own GPU.

    Every process calls `prepare` first, which may import the blocks of a user's space. It and `train` are
    pickled and sent to fresh processes, so both must be made of plain values. `on_step` is called here, with
    the steps of the first process. With `share_cpus` there may be more processes than CPUs.

    Raises:
        SettingError: there are more processes than processors.
        EvaluationFailed: a process ended before the training did; the others are stopped.
    """
    if on_cuda(device) or not share_cpus:
        check_processes(count, device)
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        group = _Group(count, str(Path(folder) / RENDEZVOUS), device, prepare)
        processes: list[SpawnProcess] = []
        reports: list[Connection] = []
        try:
            for rank in range(count):
                report, said = context.Pipe(duplex=False)
                process = context.Process(target=_run, args=(train, group, rank, said), daemon=True)
                process.start()
                said.close()
                processes.append(process)
                reports.append(report)
            _follow(processes, reports, on_step)
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


def _run(train: Train, group: _Group, rank: int, said: Connection) -> None:
    """Train, and say each step (the first process), or why it failed."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches all; the first process of all stops the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        torch.set_num_threads(max(1, torch.get_num_threads() // group.count))
        if on_cuda(group.device):
            torch.cuda.set_device(rank)
        if group.prepare is not None:
            group.prepare()
        with join(rank, group.count, group.rendezvous, device=group.device) as process_group:
            train(_saying(said) if rank == 0 else None, process_group=process_group)
    except (NasError, RuntimeError, OSError, MemoryError) as error:  # told there, where it is raised again
        said.send(f"{type(error).__name__}: {error}")
        os._exit(1)  # without waiting for the others, who wait for this one


def _saying(said: Connection) -> OnStep:
    return lambda step, loss: said.send((step, loss))


def _end_with_parent() -> None:
    """Nobody reads what a process trains whose parent was killed."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _follow(processes: Sequence[BaseProcess], reports: Sequence[Connection], on_step: OnStep | None) -> None:
    """Pass on what is reported until all processes have ended.

    Raises:
        EvaluationFailed: one did not end well; the first that did not is named.
    """
    open_reports = dict(zip(reports, processes, strict=True))
    while open_reports:
        for report in wait(list(open_reports)):
            assert isinstance(report, Connection)
            try:
                said = report.recv()
            except EOFError:
                process = open_reports.pop(report)
                process.join()
                if process.exitcode:
                    _fail(processes, process, f"ended with {process.exitcode}")
                continue
            if isinstance(said, str):
                _fail(processes, open_reports[report], said)
            elif on_step is not None:
                on_step(*said)


def _fail(processes: Sequence[BaseProcess], process: BaseProcess, why: str) -> None:
    rank = processes.index(process)
    raise EvaluationFailed(f"process {rank} of {len(processes)}: {why}")
