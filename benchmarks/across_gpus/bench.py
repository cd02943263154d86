"""What the rows share: how many GPUs, for how long, children with a time limit, and what is kept when."""

from __future__ import annotations

import argparse
import atexit
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import keep

RESULT = "RESULT "
LEAST_SECONDS = 5.0
"""With less time left nothing more is begun."""


def parser(doc: str | None, *, seconds: float) -> argparse.ArgumentParser:
    """The options that all rows have."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--gpus", type=int, nargs="+", default=[1, 2], help="numbers of GPUs, each measured")
    made.add_argument(
        "--cpu", "--smoke", action="store_true", help="a rehearsal: tiny, in processes of this CPU"
    )
    made.add_argument("--seconds", type=float, default=seconds, help="of the whole row")
    made.add_argument("--limit", type=float, default=120.0, help="seconds that one measurement may take")
    return made


class Bench:
    """A row: what was found so far, and the seconds that are left."""

    def __init__(self, name: str, given: argparse.Namespace) -> None:
        self.cpu, self.gpus, self.limit = given.cpu, sorted(given.gpus), given.limit
        self.name = f"across_gpus_{name}{'_cpu' if self.cpu else ''}"
        self.command = " ".join([f"python -m benchmarks.across_gpus.{name}", *sys.argv[1:]])
        self.rows: list[dict[str, Any]] = []
        self._end = time.monotonic() + given.seconds
        signal.signal(signal.SIGTERM, _ended)  # as by Ctrl-C, so that what was started ends, too

    @property
    def kind(self) -> str:
        """Where it is computed: `cpu` or `cuda`."""
        return "cpu" if self.cpu else "cuda"

    @property
    def left(self) -> float:
        """Seconds."""
        return self._end - time.monotonic()

    @property
    def over(self) -> bool:
        """Whether too little time is left to begin anything."""
        return self.left < LEAST_SECONDS

    def add(self, row: dict[str, Any], **more: Any) -> None:
        """Print and keep one more measurement."""
        short = {name: value for name, value in row.items() if not isinstance(value, list)}
        print(json.dumps(short), flush=True)
        self.rows.append(row)
        keep(self.name, self.command, self.rows, device=device_name(self.kind), **more)


def _ended(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


_running: set[Child] = set()


@atexit.register
def _end_all() -> None:
    """No measurement outlives the row that it is of."""
    for child in list(_running):
        child.end()


class Child:
    """A process of its own for one measurement, with all that it starts; it ends with this one at last."""

    def __init__(self, module: str, words: Sequence[str], output: Path) -> None:
        self._output = output
        with output.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *words],
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _running.add(self)

    def result(self, limit: float) -> dict[str, Any]:
        """What it said within so many seconds; `{"failed": why}` where it failed or took longer."""
        why = ""
        try:
            self.process.wait(timeout=max(0.0, limit))
        except subprocess.TimeoutExpired:
            why = f"took longer than {limit:.0f} s; last said: "
        self.end()
        lines = [line.strip() for line in self._output.read_text(errors="replace").splitlines()]
        told = [line for line in lines if line.startswith(RESULT)]
        if told:
            found: dict[str, Any] = json.loads(told[-1].removeprefix(RESULT))
            return found
        errors = [line for line in lines if "Error" in line or "Failed" in line]
        return {"failed": (why + ([*lines, *errors] or ["nothing"])[-1])[:400]}

    def end(self) -> None:
        """Kill it and what it started, if that still runs."""
        _running.discard(self)
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.process.wait()


def say(found: dict[str, Any]) -> None:
    """What a child found."""
    print(RESULT + json.dumps(found), flush=True)


def wait_for(path: str) -> None:
    """Until this file is there: a process starts and imports while the measurement before it still runs."""
    while not Path(path).exists():
        time.sleep(0.02)


def ready(device: str) -> None:
    """Wait until a GPU has done all that it was asked."""
    if device == "cuda":
        torch.cuda.synchronize()


def peak_bytes(device: str) -> int | None:
    """The most bytes of tensors on this process's GPU since the peak was reset."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else None


def device_name(kind: str) -> str:
    """The GPUs of this host, or what stands in for them."""
    if kind == "cpu":
        return "processes of a CPU"
    return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"


def difference(found: Sequence[float], expected: Sequence[float]) -> float:
    """The largest relative difference of two losses."""
    return max(abs(a / b - 1) for a, b in zip(found, expected, strict=True))
