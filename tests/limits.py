"""Limits: a disk that is full for a while, and a process that may take so much memory and time."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files end at this many bytes, as on a full disk: writing on fails with `EFBIG`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def limit_process(seconds: int, megabytes: int) -> None:
    """Let this process take so much CPU time, and so much memory beyond what it holds, and no more."""
    memory = held_memory() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


def held_memory() -> int:
    """Bytes of data that this process has asked for."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData"))
