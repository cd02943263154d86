"""A Ray of this process's own: on loopback, quiet, and gone with the process."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import ray
import ray._private.worker as driver
from ray._private import ray_constants
from ray._private.node import Node

from foundation.errors import ClusterError
from nas.executors.node_settings import LOOPBACK
from nas.executors.ray_token import read_anew

PREFIX = "nas-ray-"
TERMINATED = 128 + signal.SIGTERM
"""Exit code after SIGTERM."""

JOINS = 2
"""How often a head that others started is tried."""


def start(processors: int, inside: Path) -> Path:
    """Start Ray with so many CPUs for its workers; the folder of its files, `inside` another, for `end`.

    Raises:
        ClusterError: Ray cannot start, or would listen on more than loopback.
    """
    _sweep(inside)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=inside))
    try:
        with starting():
            read_anew()
            context: Any = ray.init(
                address="local",
                num_cpus=processors,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                _node_ip_address=LOOPBACK,
                _temp_dir=str(folder),
            )
    except (ConnectionError, ValueError, RuntimeError, OSError, ray.exceptions.RayError) as error:
        _stop(error)
        end(folder)
        raise ClusterError(f"Ray cannot start: {_reason(error)}") from None
    if (address := context.address_info["node_ip_address"]) != LOOPBACK:
        end(folder)
        raise ClusterError(f"this version of Ray listens on {address}, not on loopback alone")
    return folder


def end(folder: Path) -> None:
    """End the Ray of this process, and remove its files."""
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def _stop(error: BaseException) -> None:
    """End what a Ray that did not start left running: only the frames of its error still know it."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if isinstance(node := frame.f_locals.get("self"), Node):
            node.kill_all_processes(check_alive=False)
            return


def _reason(error: BaseException) -> str:
    """Ray's message in one line; of its server that does not answer, the last line, which says why not."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines) == 1 else f"{lines[0].partition('. ')[0]} ({lines[-1].strip()})"


@contextmanager
def starting(*, joins: bool = False) -> Iterator[None]:
    """While Ray starts or `joins` another: addresses stay, and nothing is printed or caught for good.

    A head that was refused once will be refused again, so those who join try it twice. One that is started
    here takes seconds on a busy machine, and is asked as often as Ray does.
    """
    tries = {"NUM_REDIS_GET_RETRIES": JOINS} if joins else {}
    with _constants(ENABLE_RAY_CLUSTER=False, **tries), _silent(), _own_signals():
        yield


@contextmanager
def _constants(**names: object) -> Iterator[None]:
    """Ray with other constants for a while.

    Except on systems where it knows no clusters, it puts an address that others can reach in the place of
    127.0.0.1.
    """
    before = {name: getattr(ray_constants, name) for name in names}
    try:
        for name, value in names.items():
            setattr(ray_constants, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(ray_constants, name, value)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep what Ray's C++ writes to standard error off the terminal; what matters it raises, too.

    From then on it would print whole paragraphs of every worker that is lost, on standard output.
    """
    driver.print_to_stdstream = _unsaid
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray prints a stack of C++ on SIGTERM: do what was done before, else leave in good order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, _leave if before in (signal.SIG_DFL, None) else before)


def _unsaid(data: object, ignore_prefix: bool) -> None:
    """What is printed of the raylet's messages: outcomes tell the same."""


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)


def _sweep(inside: Path) -> None:
    """Remove what processes left behind that were killed."""
    for folder in inside.glob(f"{PREFIX}*-*"):
        process = folder.name.removeprefix(PREFIX).partition("-")[0]
        if process.isdecimal() and not _runs(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
