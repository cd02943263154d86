"""Whether a long search keeps to its memory: the driver, its workers, and the store.

    python -m benchmarks.cluster.flat [TRIALS] [STRATEGY]

Resident memory of the driver and of each worker may grow by less than 10 % from when 500 trials have ended to
the end of the search; a trial may take 2 kB of the store.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cluster.processes import Process, descendants, resident, title
from benchmarks.cluster.progress import ended, free_port
from benchmarks.common import keep, show
from nas.executors.node_settings import NodeSettings
from nas.executors.ray_nodes import start_head, stop

TRIALS, FIRST = 5000, 500
WORKERS = 4
MOST_GROWTH, MOST_BYTES = 0.10, 2000


def measured(trials: int, strategy: str) -> list[dict[str, Any]]:
    """A row for the driver, each worker and, last, the store."""
    with tempfile.TemporaryDirectory(prefix="nf", dir="/tmp") as name:
        store = Path(name, "s.db")
        os.environ.update({"RAY_TMPDIR": name, "NAS_CACHE": f"{name}/cache"})
        node = start_head(NodeSettings(cpus=WORKERS, gpus=0), port=free_port())
        try:
            words = (str(store), node.address, str(trials), strategy, "0", str(WORKERS))
            driver = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.cluster.napping", *words], stdout=subprocess.DEVNULL
            )
            early, late = _watched(driver, node.process, store)
            assert driver.wait() == 0
        finally:
            stop(node)
        rows = [_row(what, early[process], late[process]) for process, what in _named(early, driver.pid)]
        held = sum(path.stat().st_size for path in Path(name).glob("s.db*"))
        return [*rows, {"what": "store", "bytes a trial": round(held / ended(store)), "trials": ended(store)}]


def _watched(
    driver: subprocess.Popen[bytes], head: int, store: Path
) -> tuple[dict[Process, int], dict[Process, int]]:
    """Resident bytes of driver and workers after the first trials, and when all were seen last."""
    early: dict[Process, int] = {}
    late: dict[Process, int] = {}
    while driver.poll() is None:
        family = {process for process in descendants(head) if title(process).startswith("ray::Worker")}
        family |= {process for process in descendants(driver.pid) if process.number == driver.pid}
        sizes = {process: size for process in family if (size := resident(process))}
        if not early and ended(store) >= FIRST:
            early = sizes
        if len(sizes) == len(early):  # before they end, one by one
            late = sizes
        time.sleep(0.5)
    return early, late


def _named(early: dict[Process, int], driver: int) -> list[tuple[Process, str]]:
    workers = sorted(process for process in early if process.number != driver)
    found = [(process, "driver") for process in early if process.number == driver]
    return found + [(process, f"worker {place}") for place, process in enumerate(workers, 1)]


def _row(what: str, early: int, late: int) -> dict[str, Any]:
    return {
        "what": what,
        f"MB after {FIRST}": round(early / 1e6, 1),
        "MB at the end": round(late / 1e6, 1),
        "growth": round(late / early - 1, 4),
    }


def main(words: Sequence[str] = ()) -> None:
    """Measure, print and keep it."""
    trials = int(words[0]) if words else TRIALS
    strategy = words[1] if len(words) > 1 else "auto"
    began = time.monotonic()
    *memory, store = measured(trials, strategy)
    show(f"Resident memory over {trials} trials of {strategy}", memory)
    print(store)
    keep(
        f"cluster_memory_{strategy}",
        f"python -m benchmarks.cluster.flat {trials} {strategy}",
        memory,
        store=store,
        seconds=round(time.monotonic() - began),
        within=all(row["growth"] < MOST_GROWTH for row in memory) and store["bytes a trial"] <= MOST_BYTES,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
