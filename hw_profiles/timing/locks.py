"""One at a time: while a device is being timed, nothing else of a study runs on it.

    with exclusive("cuda:0"):     # timing
        ...
    with shared("cuda:0"):        # training, evaluation: many may run together, none beside a timing
        ...

The locks are files (flock) in a folder of this user on this machine, so they hold between processes and Ray
workers, and a process that dies lets go. They are named by the device itself (a GPU's UUID), because `cuda:0`
means another GPU to every worker. Who wants a device for itself is served before further sharers.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import torch

from foundation.errors import ProfileError

TIMEOUT_S = 1800.0
POLL_S = 0.05

Say = Callable[[str], None]
"""Hears, once, for whom a lock is waited."""

_log = logging.getLogger(__name__)
_held = threading.local()


@contextmanager
def exclusive(
    device: str, *, timeout_s: float = TIMEOUT_S, say: Say = _log.warning, folder: Path | None = None
) -> Iterator[None]:
    """Have a device to oneself. Within one thread it may be asked for again.

    Raises:
        ProfileError: another process kept the device for `timeout_s`; its pid is named.
    """
    with _lock(device, fcntl.LOCK_EX, timeout_s, say, folder):
        yield


@contextmanager
def shared(
    device: str, *, timeout_s: float = TIMEOUT_S, say: Say = _log.warning, folder: Path | None = None
) -> Iterator[None]:
    """Use a device beside others who share it, but beside nobody who times on it.

    Raises:
        ProfileError: the device was being timed for `timeout_s`; the pid of who times is named.
    """
    with _lock(device, fcntl.LOCK_SH, timeout_s, say, folder):
        yield


def device_key(device: str) -> str:
    """What a device is called on this machine, whatever a process may see of it."""
    kind, _, index = device.partition(":")
    if kind == "cuda" and torch.cuda.is_available():
        found = torch.device(kind, int(index or torch.cuda.current_device()))
        return f"gpu-{torch.cuda.get_device_properties(found).uuid}"
    return "cpu" if kind == "cpu" else device.replace(":", "-").replace("/", "-")


def lock_folder() -> Path:
    """Where the locks of this user lie: on this machine, never on a file system that machines share."""
    folder = Path(tempfile.gettempdir()) / f"nas-locks-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ProfileError(f"{folder} belongs to another user; set TMPDIR to a folder of your own")
    return folder


@contextmanager
def _lock(device: str, mode: int, timeout_s: float, say: Say, folder: Path | None) -> Iterator[None]:
    base = (folder or lock_folder()) / device_key(device)
    mine: dict[Path, int] = _held.__dict__.setdefault("modes", {})
    if base in mine:
        if mode == fcntl.LOCK_EX and mine[base] == fcntl.LOCK_SH:
            raise ProfileError(f"{device}: a thread that shares a device cannot have it to itself as well")
        yield
        return
    deadline = time.monotonic() + timeout_s
    with ExitStack() as stack:
        # the gate: who waits for the device alone keeps it shut, so that sharers cannot go on and on
        gate = stack.enter_context(_opened(base.with_suffix(".gate")))
        file = stack.enter_context(_opened(base.with_suffix(".lock")))
        _take(gate, fcntl.LOCK_EX, deadline, (device, file, say))
        _take(file, mode, deadline, (device, file, say))
        fcntl.flock(gate, fcntl.LOCK_UN)
        if mode == fcntl.LOCK_EX:
            _sign(file)
        mine[base] = mode
        try:
            yield
        finally:
            del mine[base]
            if mode == fcntl.LOCK_EX:
                file.truncate(0)


def _opened(path: Path) -> IO[str]:
    return open(path, "a+", encoding="utf-8")  # closed by the stack, which lets go


def _take(file: IO[str], mode: int, deadline: float, about: tuple[str, IO[str], Say]) -> None:
    device, signed, say = about
    told = False
    while True:
        try:
            fcntl.flock(file, mode | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = _holder(signed)
        if time.monotonic() >= deadline:
            raise ProfileError(f"{device} stayed busy: {holder}; wait for it, or end it")
        if not told:
            say(f"waiting for {device}: {holder}")
            told = True
        time.sleep(POLL_S)


def _sign(file: IO[str]) -> None:
    file.truncate(0)
    file.write(json.dumps({"pid": os.getpid(), "since": time.time()}))
    file.flush()


def _holder(file: IO[str]) -> str:
    file.seek(0)
    try:
        signed = json.loads(file.read())
        return f"process {signed['pid']} has been timing on it for {time.time() - signed['since']:.0f} s"
    except (ValueError, KeyError):
        return "other processes are running on it"
