"""Processes side by side that get ready together and are measured one after the other.

Compiling and autotuning take most of the time of a measurement on a GPU, and spoil whatever is timed beside
them. So every worker first gets ready, says so, and waits; when all are ready, or out of time, each is told
in turn to measure, alone.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

READY, RESULT = "READY ", "RESULT "
MEASURE_SECONDS = 60.0


def measured(
    module: str,
    names: Sequence[str],
    options: Sequence[str],
    patience: float,
    done: Callable[[str, dict[str, Any]], None] = lambda name, found: None,
) -> dict[str, Any]:
    """What each worker `python -m MODULE --worker NAME OPTIONS` measured: by name, or `{"failed": why}`.

    `patience` is the seconds that all workers together have to get ready; `done` is told each as it comes.
    """
    begun = time.monotonic()
    alone = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "1", "OMP_NUM_THREADS": "1"}
    workers = {
        name: subprocess.Popen(
            [sys.executable, "-m", module, "--worker", name, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=alone,
        )
        for name in names
    }
    heard = {name: _Ear(worker) for name, worker in workers.items()}
    ready = {name: heard[name].wait(READY, begun + patience) for name in names}
    for name in names:
        if ready[name] is None:
            workers[name].kill()
    found = {}
    for name, worker in workers.items():
        result, ear = ready[name], heard[name]
        if result is not None:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
            told = ear.wait(RESULT, time.monotonic() + MEASURE_SECONDS)
            result = None if told is None else {**result, **told}
        found[name] = {"failed": ear.last_words()} if result is None else result
        worker.kill()
        print(name, found[name], flush=True)
        done(name, found[name])
    return found


def serve(get_ready: Callable[[], dict[str, Any]], measure: Callable[[], dict[str, Any]]) -> None:
    """The life of a worker."""
    begun = time.monotonic()
    about = get_ready()
    print(READY + json.dumps({**about, "ready_s": time.monotonic() - begun}), flush=True)
    sys.stdin.readline()
    print(RESULT + json.dumps(measure()), flush=True)


class _Ear:
    """Listens to a worker's output in a thread of its own, so that it never blocks on a full pipe."""

    def __init__(self, worker: subprocess.Popen[str]) -> None:
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.said: list[str] = []
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()

    def _listen(self, worker: subprocess.Popen[str]) -> None:
        assert worker.stdout is not None
        for line in worker.stdout:
            self.lines.put(line.strip())
        self.lines.put(None)

    def wait(self, word: str, until: float) -> dict[str, Any] | None:
        """What the worker says after this word; None if it dies or takes too long."""
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                self.said.append("TimeoutError: took too long")
                return None
            if line is None:
                return None
            if line.startswith(word):
                heard: dict[str, Any] = json.loads(line.removeprefix(word))
                return heard
            self.said.append(line)

    def last_words(self) -> str:
        """Why a worker failed, as far as it said."""
        errors = [line for line in self.said if "Error" in line]
        return (errors or self.said or ["died in silence"])[-1][:300]
