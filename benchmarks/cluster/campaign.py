"""A campaign of faults: workers are killed every few seconds, the driver twice, and candidates misbehave.

    python -m benchmarks.cluster.campaign [TRIALS]

Every trial number must be there once with an outcome; who behaves has a score and who does not the reason for
it; the front is that of a search that was not disturbed and hears the same outcomes; and nothing is left: no
process, no temporary file, no shared memory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import nas
from benchmarks.cluster import hostile
from benchmarks.cluster.processes import Process, descendants, kill, runs, title
from benchmarks.cluster.progress import ended, free_port
from benchmarks.common import keep, show
from foundation.errors import EvaluationFailed
from nas.executors.node_records import Node
from nas.executors.node_settings import NodeSettings
from nas.executors.ray_nodes import start_head, stop
from nas.study.study import Study
from nas.study.trial import Trial, TrialState

TRIALS = 300
BETWEEN = (2.0, 5.0)
"""Seconds between two kills of a worker."""

DRIVER_KILLS = (1 / 3, 2 / 3)
"""When the driver is killed: shares of the trials that have ended."""

AFTER_SECONDS = 60.0
"""How long processes may take to notice that their cluster has ended."""


@dataclass
class Killer:
    """Kills a random worker of a node every few seconds, and remembers every process that it sees."""

    node: Node
    dice: Random
    kills: int = 0
    seen: set[Process] = field(default_factory=set)
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Until it is over."""
        due = time.monotonic() + self.dice.uniform(*BETWEEN)
        while not self._over.wait(0.5):
            family = descendants(self.node.process)
            self.seen |= family
            if time.monotonic() < due:
                continue
            workers = sorted(process for process in family if title(process).startswith("ray::Worker"))
            if workers:
                kill(self.dice.choice(workers))
                self.kills += 1
            due = time.monotonic() + self.dice.uniform(*BETWEEN)

    def end(self) -> None:
        """No more kills."""
        self._over.set()


def disturbed(store: Path, trials: int, environment: dict[str, str]) -> tuple[dict[str, Any], set[Process]]:
    """Run the search while everything is killed; what was done to it, and the processes that were seen."""
    os.environ.update(environment)
    node = start_head(NodeSettings(cpus=hostile.WORKERS, gpus=0), port=free_port())
    killer = Killer(node, Random("campaign"))
    thread = threading.Thread(target=killer.run, daemon=True)
    began, driver_kills = time.monotonic(), [round(share * trials) for share in DRIVER_KILLS]
    thread.start()
    try:
        while True:
            driver = _driver(store, node, trials)
            killed = False
            while driver.poll() is None:
                killer.seen |= descendants(driver.pid)
                if driver_kills and ended(store) >= driver_kills[0]:
                    driver.send_signal(signal.SIGKILL)
                    killed = True
                    driver_kills.pop(0)
                time.sleep(0.2)
            if not killed:
                break
        assert driver.returncode == 0, f"the driver ended with {driver.returncode}"
    finally:
        killer.end()
        thread.join()
        stop(node)
    done = {
        "workers killed": killer.kills,
        "driver killed": len(DRIVER_KILLS) - len(driver_kills),
        "seconds": round(time.monotonic() - began),
    }
    return done, killer.seen


def _driver(store: Path, node: Node, trials: int) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "benchmarks.cluster.hostile", str(store), node.address, str(trials)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL)


def undisturbed(trials: Sequence[Trial], wanted: int, folder: Path) -> Study:
    """A search in one process that hears, for each architecture, what the disturbed one recorded."""
    known = {trial.digest: trial for trial in trials}

    def recorded(spec: hostile.Hostile, name: str) -> float:
        trial = known[_digest(spec)]
        if trial.state is not TrialState.COMPLETE:
            raise EvaluationFailed(trial.reason or "")
        return trial.values[name].value

    def first(spec: hostile.Hostile) -> float:
        return recorded(spec, "first")

    def second(spec: hostile.Hostile) -> float:
        return recorded(spec, "second")

    return nas.search(
        hostile.space(),
        name="undisturbed",
        objectives=[first, second],
        strategy="random",
        trials=wanted,
        finalists=0,
        store=folder / "undisturbed.db",
        progress=False,
    )


def _digest(spec: hostile.Hostile) -> str:
    from dataclasses import asdict

    values = asdict(spec)
    genotype, _ = hostile.space().draw(lambda path, labels: values[path.rpartition(".")[2]])
    return genotype.digest


def judged(study: Study, trials: Sequence[Trial], wanted: int) -> list[dict[str, Any]]:
    """By what candidates do: how many there are, and how many have the outcome that it calls for."""
    rows = []
    does = {trial.number: hostile.fault(study.spec(trial)) for trial in trials}
    for kind in ("", *hostile.FAULTS.values()):
        own = [trial for trial in trials if does[trial.number] == kind]
        right = [trial for trial in own if _is_right(trial, kind)]
        rest = Counter(trial.reason for trial in own if trial not in right)
        rows.append(
            {
                "candidate": kind or "behaves",
                "trials": len(own),
                "with the outcome that it calls for": len(right),
                "others": "; ".join(f"{times} x {reason}" for reason, times in rest.items()),
            }
        )
    return rows


def _is_right(trial: Trial, kind: str) -> bool:
    if not kind:
        return trial.state is TrialState.COMPLETE
    return trial.state is TrialState.FAILED and (trial.reason or "").startswith(hostile.REASONS[kind])


def left(seen: set[Process], folder: Path, shared: set[str]) -> dict[str, list[str]]:
    """What is still there: processes, temporary files, shared memory."""
    end = time.monotonic() + AFTER_SECONDS
    while (alive := [process for process in seen if runs(process)]) and time.monotonic() < end:
        time.sleep(0.5)
    return {
        "processes left": [title(process) for process in alive],
        "files left": [str(path.relative_to(folder)) for path in folder.rglob("*")],
        "shared memory left": sorted(set(os.listdir("/dev/shm")) - shared),
    }


def campaign(trials: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run it; the verdicts, and the outcomes by what candidates do."""
    with tempfile.TemporaryDirectory(prefix="nc", dir="/tmp") as name:
        folder, temporary = Path(name), Path(name, "t")
        temporary.mkdir()
        shared = set(os.listdir("/dev/shm"))
        places = {"TMPDIR": str(temporary), "RAY_TMPDIR": str(temporary), "NAS_CACHE": str(folder / "cache")}
        places["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "compiled")  # torch makes it when it is imported
        done, seen = disturbed(folder / "s.db", trials, places)
        study = nas.open("hostile", store=folder / "s.db")
        found = study.trials()
        again = undisturbed(found, trials, folder)
        verdicts = {
            **done,
            "trials": len(found),
            "every number once": sorted(t.number for t in found) == list(range(len(found))),
            "with an outcome": sum(trial.state is not TrialState.RUNNING for trial in found),
            "proposals equal to an undisturbed run": [t.digest for t in found]
            == [t.digest for t in again.trials()],
            "front": len(study.front()),
            "front equal to an undisturbed run": {t.digest for t in study.front()}
            == {t.digest for t in again.front()},
            **left(seen, temporary, shared),
        }
        return verdicts, judged(study, found, trials)


def main(words: Sequence[str] = ()) -> None:
    """Run it, print what came of it, and keep it."""
    trials = int(words[0]) if words else TRIALS
    verdicts, rows = campaign(trials)
    show("Outcomes by what candidates do", rows)
    for name, value in verdicts.items():
        print(f"{name}: {value}")
    keep("cluster_campaign", f"python -m benchmarks.cluster.campaign {trials}", rows, **verdicts)


if __name__ == "__main__":
    main(sys.argv[1:])
