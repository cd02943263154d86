"""Timing a front: seconds a network, where they go, and how far repeated timings agree.

Random networks of a ready-made space are extracted from an untrained supernet and timed in interleaved
rounds, in groups, as the step `measure` of a study does; then once more from the beginning. What nobody asked
for is timed beside it, to show what it costs. Targets on a GPU: 2 s a network for extraction and latency
together; repeated medians within 1 %. (On a CPU that others use, two sessions differ by more than that; a
study holds its networks against the calibration of its latency table.)

    python -m benchmarks.training.front_timing                              # the space laptop, on this CPU
    python -m benchmarks.training.front_timing --space gpu --networks 24 --out front_timing.json
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import torch

from benchmarks.common import show_plainly
from benchmarks.profiles.results import Result
from hw_profiles.energy import measure_energy
from hw_profiles.memory.prediction import measure_memory
from hw_profiles.timing.measure import TOGETHER, measure_networks
from hw_profiles.timing.timings import READINGS, Latency
from search_spaces.network.model import Model
from search_spaces.scenario import Scenario
from search_spaces.spaces import spaces
from search_spaces.supernet import Supernet

DEVICES = {"cpu": "cpu,prompt=256,new_tokens=64"}
"""Scenarios of spaces that name none."""


class Clock:
    """Seconds by what they were spent on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Count the time inside."""
        began = time.perf_counter()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - began


def timed(models: Sequence[Model], scenario: Scenario, seed: int) -> list[Mapping[str, Latency]]:
    """Latencies, group by group."""
    found: list[Mapping[str, Latency]] = []
    for start in range(0, len(models), TOGETHER):
        group = models[start : start + TOGETHER]
        found += measure_networks(group, scenario, seed=seed, seconds=30.0 * len(group) / len(models))
    return found


def agreement(first: Sequence[Mapping[str, Latency]], again: Sequence[Mapping[str, Latency]]) -> list[Any]:
    """By reading, how far the medians of two sessions are apart, relatively, and in their own errors."""
    rows = []
    for reading in READINGS:
        pairs = [(a[reading], b[reading]) for a, b in zip(first, again, strict=True)]
        apart = [abs(b.median_ms / a.median_ms - 1) for a, b in pairs]
        errors = [each.standard_error / each.median_ms for pair in pairs for each in pair]
        rows.append(
            {
                "reading": reading,
                "median ms": statistics.median(a.median_ms for a, _ in pairs),
                "apart, median %": 100 * statistics.median(apart),
                "apart, most %": 100 * max(apart),
                "stated error, median %": 100 * statistics.median(errors),
                "samples": statistics.median(a.n for a, _ in pairs),
                "unsettled": sum(bool(a.unsettled) for a, _ in pairs),
            }
        )
    return rows


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """What to time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.front_timing")
    parser.add_argument("--space", default="laptop", choices=sorted(spaces))
    parser.add_argument("--scenario", help="by default the first that the space names, else one of this CPU")
    parser.add_argument("--networks", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--extras", type=int, default=2, help="networks whose memory and energy are measured")
    parser.add_argument("--out", type=Path)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run it, print both tables, and write them to `--out`."""
    given = arguments(words)
    space = spaces[given.space]()
    scenario = Scenario.parse(given.scenario or [*space.defaults.get("scenarios", []), DEVICES["cpu"]][0])
    dice, clock = Random(given.seed), Clock()
    specs = [space.close(space.sample(dice)) for _ in range(given.networks)]
    with clock.on("supernet (not counted)"):
        supernet = Supernet(space, seed=given.seed, device=scenario.device)
    with clock.on("extraction"):
        models = [supernet.subnet(spec).extract() for spec in specs]
    with clock.on("latency"):
        first = timed(models, scenario, given.seed)
    with clock.on("latency again"):
        again = timed(models, scenario, given.seed + 1)
    some = models[: given.extras]
    with clock.on("memory, where asked"):
        for model in some:
            measure_memory(model, scenario)
    with clock.on("energy, where asked"):
        for model in some:
            measure_energy(model, scenario)
    shared = {"memory, where asked": len(some), "energy, where asked": len(some), "supernet (not counted)": 1}
    costs = [
        {"what": what, "seconds": seconds, "s a network": seconds / max(1, shared.get(what, len(models)))}
        for what, seconds in clock.seconds.items()
    ]
    each = (clock.seconds["extraction"] + clock.seconds["latency"]) / len(models)
    show_plainly(f"{len(models)} networks of {space.name}, {scenario}: {each:.2f} s a network", costs)
    rows = agreement(first, again)
    show_plainly("Two sessions", rows)
    if given.out:
        command = f"python -m benchmarks.training.front_timing --space {space.name} --networks {len(models)}"
        Result(given.out, command, scenario).write(rows, complete=True, seconds_each=each, costs=costs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
