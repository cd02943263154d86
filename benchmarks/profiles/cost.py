"""What a table costs: made for the ready-made hybrid space, used again, and asked about many networks."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.profiles.results import Result, show
from hw_profiles.latency.profiler import profile_space
from hw_profiles.latency.table import LatencyTable
from hw_profiles.timing.timings import READINGS
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder
from search_spaces.scenario import Scenario
from search_spaces.spaces import spaces

ASKED = 10_000
RUNS = 5


def run(scenario: Scenario, result: Result, *, space: str, seconds: float, seed: int) -> None:
    """Make a table in `seconds`; load it again; predict many networks with it."""
    searched = spaces[space]()
    began = time.monotonic()
    table = profile_space(searched, scenario, seconds=seconds, seed=seed)
    took = time.monotonic() - began
    path = result.path.with_suffix(".table")
    table.save(path)
    row: dict[str, Any] = {
        "space": space,
        "asked for, s": seconds,
        "took, s": round(took, 1),
        "parts measured": len(table.entries),
        **{f"{r} MAPE, held out": table.accuracies[r].mape for r in READINGS},
        **{f"{r} tau, held out": table.accuracies[r].tau for r in READINGS},
        "trusted": table.trusted,
        **again(searched, path),
        **speed(searched, path, seed),
    }
    path.unlink()
    result.write([row], complete=True, notes=table.provenance.notes)
    show("What a table costs", [row])


def again(space: Space, path: Path) -> dict[str, Any]:
    """The time until a table on disk can be used; nothing is measured."""
    began = time.monotonic()
    covered = LatencyTable.load(path).covers(space)
    return {"used again after, s": round(time.monotonic() - began, 3), "and covers the space": covered}


def speed(space: Space, path: Path, seed: int) -> dict[str, Any]:
    """Predictions of different networks, each time by a table that knows none of them yet."""
    specs = distinct(space, seed)
    times, wholes = [], []
    for _ in range(RUNS):
        table = LatencyTable.load(path)
        wall, thread = time.perf_counter(), time.thread_time()
        table.predict_many(specs)
        times.append(time.thread_time() - thread)
        wholes.append(time.perf_counter() - wall)
    return {
        "networks predicted": len(specs),
        "thread time, s": sorted(times)[RUNS // 2],
        "wall time, s": sorted(wholes)[RUNS // 2],
        "slowest, s": max(wholes),
    }


def distinct(space: Space, seed: int) -> list[Decoder]:
    """Random networks of which no two are alike."""
    dice, found = Random(f"benchmark/{seed}/speed"), dict[Decoder, None]()
    for _ in range(3 * ASKED):
        _, spec = space.propose_with_spec(lambda path, labels: dice.choice(labels))
        found[spec] = None
        if len(found) == ASKED:
            break
    return list(found)
