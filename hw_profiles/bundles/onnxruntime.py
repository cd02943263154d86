"""Times the programs of a bundle in ONNX Runtime; `run.sh` starts it where this project is not.

A few things at a time are loaded and warmed up; then rounds visit their programs in a fresh order each. With
one thread a sample is the CPU time of the process, beside it the time of the wall.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnxruntime

AT_ONCE = 40
"""Programs that are held in memory together."""

RUN_MS, RUN_STEPS = 2.0, 100
"""A run of decode steps takes so long, up to so many steps: most of them find the caches warm."""


def main(folder: Path, rounds: int) -> None:
    """Time every program `rounds` times, and write samples.jsonl when all are done."""
    bundle = json.loads((folder / "bundle.json").read_text())
    threads, calls = bundle["table"]["scenario"]["threads"], bundle["calls"]
    part = folder / "samples.part"
    with part.open("w") as file:
        file.write(json.dumps({"machine": machine()}) + "\n")
        for start in range(0, len(calls), AT_ONCE):
            some = range(start, min(start + AT_ONCE, len(calls)))
            loaded = {call: load(folder, calls[call], threads) for call in some}
            for each in loaded.values():
                each()
            for number in range(rounds):
                order = list(some)
                Random(f"{start}/{number}").shuffle(order)
                for call in order:
                    repeats = calls[call]["repeats"]
                    took = timed(loaded[call], repeats, threads)
                    file.write(json.dumps({"call": call, "repeats": repeats, "ms": took}) + "\n")
            sys.stderr.write(f"run.py: {some.stop} of {len(calls)} programs\n")
    part.replace(folder / "samples.jsonl")


def load(folder: Path, call: dict[str, Any], threads: int) -> Callable[[], Any]:
    """A program with its inputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        str(folder / call["file"]), options, providers=["CPUExecutionProvider"]
    )
    names = [each.name for each in session.get_inputs()]
    feeds = dict(zip(names, map(made, call["inputs"]), strict=True))
    return lambda: session.run(None, feeds)


def made(about: dict[str, Any]) -> Any:
    """An input: the given values, small random numbers, or zeros."""
    if "values" in about:
        return np.array(about["values"], about["dtype"]).reshape(about["shape"])
    if about["dtype"].startswith("float"):
        return (0.1 * np.random.default_rng(0).standard_normal(about["shape"])).astype(about["dtype"])
    return np.zeros(about["shape"], about["dtype"])


def timed(call: Callable[[], Any], repeats: int, threads: int) -> Sequence[float]:
    """Milliseconds of so many calls, after one that is not timed: CPU time, and that of the wall.

    Where there are several, they are decode steps, and all count as the middle one of a run.
    """
    call()
    run = [once(call, threads)]
    while len(run) < repeats or (repeats > 1 and len(run) < RUN_STEPS and sum(ms for ms, _ in run) < RUN_MS):
        run.append(once(call, threads))
    return [repeats * statistics.median(column) for column in zip(*run, strict=True)]


def once(call: Callable[[], Any], threads: int) -> tuple[float, float]:
    """Milliseconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return 1e3 * (cpu if threads == 1 else wall), 1e3 * wall


def machine() -> dict[str, Any]:
    """The machine, as far as it can be read."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in _lines(info) if line.startswith("model name")]
    return {
        "cpu_model": (names or [platform.processor() or platform.machine()])[0],
        "cores": os.cpu_count(),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
    }


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    main(Path(__file__).parent, int(sys.argv[1]))
