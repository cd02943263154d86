"""Data-parallel training over several processes: each reads its part of a step, gradients are added up.

    with join(rank, count, rendezvous) as process_group:
        training = SupernetTraining(space, task, steps=250, seed=0, batch=32, process_group=process_group)

All processes draw the same subnets, since random choices come from (seed, step), so none needs to be told
what to do. `count` processes with a batch of B rows compute what one does with the same B, up to rounding;
only losses that are not a mean over tokens (the balance of experts) see each process's rows alone.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from foundation.errors import SettingError

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others before it gives up."""


@dataclass(frozen=True)
class ProcessGroup:
    """This process among `count` that share a training; the one of `rank` 0 keeps the checkpoints."""

    rank: int = 0
    count: int = 1

    def rows(self, batch: Tensor) -> Tensor:
        """The rows of a batch [B, ...] that this process reads.

        Raises:
            SettingError: there are fewer rows than processes.
        """
        if batch.shape[0] < self.count:
            raise SettingError(f"a batch of {batch.shape[0]} rows cannot be shared by {self.count} processes")
        return batch[self.rank :: self.count]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by its sum over all processes; the order must be the same everywhere."""
        if self.count == 1 or not tensors:
            return
        joined = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(joined)
        parts = joined.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def any_of(self, flags: Sequence[bool]) -> list[bool]:
        """Which of the flags are set in at least one process; the order must be the same everywhere.

        Said from processor to processor, so that no GPU is waited for.
        """
        if self.count == 1 or not flags:
            return list(flags)
        joined = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(joined, dist.ReduceOp.MAX)
        return [bool(flag) for flag in joined.tolist()]

    def wait(self, device: str) -> None:
        """Wait until all processes are here."""
        arrived = torch.zeros(1, device=device)
        self.add_up([arrived])
        float(arrived)  # a GPU would go on without the others until its result is read


SINGLE_PROCESS = ProcessGroup()

LOOPBACK = next((name for _, name in socket.if_nameindex() if re.fullmatch("lo0?", name)), "lo")
"""The network interface that only this host can reach."""


@contextmanager
def join(rank: int, count: int, rendezvous: str | Path, *, device: str = "cpu") -> Iterator[ProcessGroup]:
    """Become process `rank` of `count`, which meet in the file `rendezvous` (a path that is not used yet).

    Raises:
        SettingError: the rank is none of theirs.
    """
    if not 0 <= rank < count:
        raise SettingError(f"rank must be one of 0 to {count - 1}, got {rank}")
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        # all of them are on this host; otherwise they would listen on the address of its name
        os.environ.setdefault(variable, LOOPBACK)
    dist.init_process_group(
        backend,
        init_method=f"file://{Path(rendezvous).absolute()}",
        rank=rank,
        world_size=count,
        timeout=TIMEOUT,
    )
    try:
        yield ProcessGroup(rank, count)
    finally:
        dist.destroy_process_group()
