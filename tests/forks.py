"""Processes that can be killed, without the seconds that importing torch takes: forks of one warm process."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

WARM = get_context("forkserver")
WARM.set_forkserver_preload(
    [
        "tests.conftest",
        "nas.cli",
        "nas.study.search",
        "nas.study.space_files",
        "nas.study.export",
        "dashboards.commands",
    ]
)


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


class Fork:
    """A function running in a process of its own, its output in files."""

    def __init__(
        self, function: Callable[..., Any], *arguments: Any, environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder = Path(mkdtemp(prefix="nas-fork-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        for name in ("stdout", "stderr"):
            (self.folder / name).touch()
        self.process = WARM.Process(
            target=_run, args=(str(self.folder), dict(environment or {}), function, arguments), daemon=True
        )
        self.process.start()

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def send(self, number: int) -> None:
        os.kill(self.process.pid or 0, number)

    def kill(self) -> Ended:
        with suppress(ProcessLookupError):  # it has ended by itself
            self.send(signal.SIGKILL)
        return self.wait()

    def wait(self, timeout: float = 120) -> Ended:
        self.process.join(timeout)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            raise TimeoutError(f"still running after {timeout} s: {self.stderr}")
        return Ended(code, (self.folder / "stdout").read_text(), self.stderr)


def nas_command(*words: str, store: Path | None = None) -> Fork:
    """The command line with these words."""
    environment = {"COLUMNS": "200", **({"NAS_STORE": str(store)} if store else {})}
    return Fork(run_main, words, environment=environment)


def until(reached: Callable[[], bool], fork: Fork, timeout: float = 300) -> None:
    """Wait for something that a process does; fail if it ends before, or takes too long."""
    end = time.monotonic() + timeout
    while not reached():
        assert fork.alive, fork.wait()
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.003)


def _run(folder: str, environment: Mapping[str, str], function: Callable[..., Any], arguments: Any) -> None:
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        opened = os.open(f"{folder}/{name}", os.O_WRONLY)
        os.dup2(opened, descriptor)
    os.environ.update(environment)
    function(*arguments)
    sys.stdout.flush()


def run_main(words: tuple[str, ...]) -> None:
    """The command line with these words, in this process."""
    from nas.cli import main

    sys.argv = ["nas", *words]
    main()
