"""How far the ratio of two blocks ranges over separate processes, with a busy neighbour and without.

A neighbour on another core is the question; on a machine that more processes use than it has cores, a run may
also lose its own core to them. What share of its core each run had is kept, and the range is told over all
runs and over those that had theirs. Runs go on until there are enough of the latter, or the time is up.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from benchmarks.profiles.results import Result, show
from hw_profiles.latency.parts import block_part, part_calls, part_samples
from hw_profiles.timing.measure import undisturbed
from hw_profiles.timing.rounds import rounds_of, warmed
from hw_profiles.timing.timings import READINGS, Latency
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.scenario import Scenario

RUNS, MOST_RUNS = 5, 9
COPIES = 20
OWN_CORE = 0.95
"""From which share of its core a run had its own: CPU time over wall time of the calibration kernel."""

WIDTH = 192

Rows = list[dict[str, Any]]


def run(scenario: Scenario, result: Result, *, rounds: int, limit: float) -> None:
    """Profile the pair again and again; the loads of the machine are told beside."""
    runs: dict[bool, Rows] = {False: [], True: []}
    for number in range(MOST_RUNS):
        for busy in (False, True):  # in turns, so that what else the machine does falls on both alike
            late = number and time.monotonic() - result.started > limit
            if late or (number >= RUNS and len(undisputed(runs[busy])) >= RUNS):
                continue
            with neighbour(busy):
                runs[busy].append(in_a_process_of_its_own(scenario, rounds))
        enough = min(map(len, runs.values())) >= RUNS
        result.write(summary(runs), complete=enough, runs=list(runs[False]), beside=list(runs[True]))
    show("The ratio of two blocks, in separate processes", summary(runs))


def summary(runs: dict[bool, Rows]) -> Rows:
    """The range of each ratio, relative to the smallest, and how far any run is from the median of all."""
    rows = []
    for busy, found in runs.items():
        for name in found[0]["ratios"] if found else ():
            values = sorted(each["ratios"][name] for each in found)
            own = sorted(each["ratios"][name] for each in undisputed(found))
            rows.append(
                {
                    "ratio": name,
                    "busy neighbour": busy,
                    "runs": len(values),
                    "median": (middle := statistics.median(values)),
                    "range": values[-1] / values[0] - 1,
                    "farthest from the median": max(abs(value / middle - 1) for value in values),
                    "runs with their own core": len(own),
                    "range of these": own[-1] / own[0] - 1 if own else None,
                }
            )
    return rows


def undisputed(runs: Rows) -> Rows:
    """Those that had their core to themselves."""
    return [each for each in runs if each["share of its core"] >= OWN_CORE]


def in_a_process_of_its_own(scenario: Scenario, rounds: int) -> dict[str, Any]:
    """The ratios of `ratios`, measured by a new process, and the machine's load before."""
    command = [sys.executable, "-m", "benchmarks.profiles", "--ratios", "--rounds", str(rounds)]
    command += ["--try-scenario", json.dumps(scenario.to_json())]
    load = os.getloadavg()[0]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {"load": load, **json.loads(done.stdout)}


def ratios(scenario: Scenario, rounds: int) -> dict[str, Any]:
    """Time of one block over that of another, by reading and clock, in this process; its share of its core.

    Each block is built several times, because where its tensors come to lie changes its time by some percent.
    """
    pair = {"attention": block_part(Attention(), WIDTH, 16), "mamba2": block_part(Mamba2(), WIDTH, 16)}
    with undisturbed(scenario):
        calls = {
            f"{name} {copy} {key}": call
            for copy in range(COPIES)
            for name, part in pair.items()
            for key, call in part_calls(part, scenario, seed=copy).items()
        }
        session = warmed(rounds_of(calls, scenario), scenario)
        for _ in range(rounds // COPIES):
            session.take_round()
    found = {}
    for clock, timed in (("thread", session.ratios), ("wall", session.walls)):
        own = {name: _own(timed, name) for name in pair}
        for reading in READINGS:
            one, other = (Latency(tuple(own[name][reading])).median_ms for name in pair)
            found[f"{reading} {clock}"] = one / other
    ms, wall_ms = (sum(column) for column in zip(*session.calibration, strict=True))
    return {"ratios": found, "share of its core": ms / wall_ms}


def _own(timed: Mapping[str, list[float]], name: str) -> dict[str, list[float]]:
    """A block's own time by reading, the samples of all its copies together."""
    found: dict[str, list[float]] = {reading: [] for reading in READINGS}
    for copy in range(COPIES):
        start = f"{name} {copy} "
        own, _ = part_samples({k.removeprefix(start): v for k, v in timed.items() if k.startswith(start)})
        for reading in READINGS:
            found[reading] += own[reading]
    return found


@contextmanager
def neighbour(busy: bool) -> Iterator[None]:
    """A process that keeps a core busy, if wanted."""
    if not busy:
        yield
        return
    spinning = subprocess.Popen([sys.executable, "-c", "while True: sum(range(10000))"])
    try:
        yield
    finally:
        spinning.kill()
        spinning.wait()
