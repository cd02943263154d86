"""How busy eight workers are whose evaluator takes 50 ms: what a proposal and its record cost them.

    python -m benchmarks.cluster.busy [TRIALS] [STRATEGY ...]

The evaluator sleeps, so that eight workers need no eight cores. The share is trials times 50 ms over workers
times the time from when a tenth of the trials has ended to the end. Target: 0.9 under `auto`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nas
from benchmarks.cluster.napping import NAME
from benchmarks.cluster.progress import free_port
from benchmarks.common import keep, show
from nas.executors.node_settings import NodeSettings
from nas.executors.ray_nodes import start_head, stop

TRIALS, STRATEGIES = 400, ("random", "nsga2", "auto")
WORKERS, MILLISECONDS = 8, 50


def measured(trials: int, strategies: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each strategy."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="nb", dir="/tmp") as name:
        os.environ.update({"RAY_TMPDIR": name, "NAS_CACHE": f"{name}/cache"})
        node = start_head(NodeSettings(cpus=WORKERS, gpus=0), port=free_port())
        try:
            for strategy in strategies:
                store = Path(name, f"{strategy}.db")
                words = (str(store), node.address, str(trials), strategy, str(MILLISECONDS), str(WORKERS))
                command = [sys.executable, "-m", "benchmarks.cluster.napping", *words]
                subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
                rows.append({"strategy": strategy, **_busy(store)})
        finally:
            stop(node)
    return rows


def _busy(store: Path) -> dict[str, Any]:
    """From the moments at which trials were ended."""
    trials = nas.open(NAME, store=store).trials()
    scored = sorted(trial.finished or 0.0 for trial in trials if trial.reused is None)
    begin = len(scored) // 10
    seconds, count = scored[-1] - scored[begin], len(scored) - 1 - begin
    share = count * MILLISECONDS / 1000 / (WORKERS * seconds)
    return {
        "trials": count,
        "seconds": round(seconds, 2),
        "a second": round(count / seconds, 1),
        "busy": share,
    }


def main(words: Sequence[str] = ()) -> None:
    """Measure, print and keep it."""
    trials, strategies = (int(words[0]), words[1:]) if words else (TRIALS, ())
    rows = measured(trials, strategies or STRATEGIES)
    show(f"{WORKERS} workers, {MILLISECONDS} ms a candidate", rows)
    keep("cluster_busy", f"python -m benchmarks.cluster.busy {' '.join(words)}".strip(), rows)


if __name__ == "__main__":
    main(sys.argv[1:])
