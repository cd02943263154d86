"""The simulation of a server under six loads against its measurement, for two networks.

    python -m benchmarks.life.loads [--size small|large]

Three engines take turns, an iteration each, because others compute on the same machine and its pace changes
within seconds. Two of them answer the same load, so that it is measured twice: how far both are apart is what
no simulation can be expected to undercut. The third answers loads of equal rate and other seeds. From its
iterations come the times of the network (reading a token, a step of each number of rows) and the pace of the
machine in each turn; with these the simulation says throughput and percentiles of the times to the first
token and for each further one of the measured load. `steady` is its error without the pace. The clock is
processor time.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import keep_row, show
from benchmarks.life.adapters import SIZES
from benchmarks.life.adapters import network as hybrid
from nas.serving.figures import FIGURES
from nas.serving.load import Run
from nas.serving.simulation import Costs, measured_costs, simulate
from search_spaces.network.model import Model
from search_spaces.scenario import Scenario

COMMAND = "python -m benchmarks.life.loads"
LOADS = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
REQUESTS = {"small": 400, "large": 200}
"""Of 40 the times to the first token differ by more than a tenth from one measurement to the next."""

SCENARIOS = {
    "small": Scenario(batch=8, prompt=64, new_tokens=24),
    "large": Scenario(batch=8, prompt=32, new_tokens=12),
}

SEEN = 10
"""A number of rows has a time of its own if it was seen so often; others lie between their neighbours."""

NEAR, ROUNDS = 15, 3
"""Turns before and after one that tell its pace, and how often times and pace are fitted to each other."""


def fitted(told: Sequence[tuple[int, int, float]], scenario: Scenario) -> tuple[Costs, NDArray[np.float64]]:
    """The times of a network, and the pace of the machine in each turn, from the iterations of an engine."""
    tokens, rows, ms = np.array(told).T * np.array([[1], [1], [1e3]])
    counts = [count for count in range(1, scenario.batch + 1) if (rows == count).sum() >= SEEN]
    steps = [np.interp(rows, counts, one) * (rows > 0) for one in np.eye(len(counts))]
    work, pace, window = np.stack([tokens, *steps], 1), np.ones_like(ms), np.ones(2 * NEAR + 1)
    for _ in range(ROUNDS):
        found, *_ = np.linalg.lstsq(work, ms / pace, rcond=None)
        pace = np.convolve(ms, window, "same") / np.convolve(work @ found, window, "same")
    token, *each = map(float, found)
    return Costs(token, 0.0, tuple(counts), tuple(each)), pace


def compare(model: Model, scenario: Scenario, requests: int) -> dict[str, float]:
    """The figures under one load: measured, how far apart in two measurements, and how far off predicted."""
    judged = [Run(model, scenario, requests, seed=0) for _ in range(2)]
    known, seed, busy = Run(model, scenario, requests, seed=1), 1, True
    told: list[tuple[int, int, float]] = []
    while busy:
        more = known.iterate()
        told.append(known.iterations[-1])
        if not more:
            seed += 1
            known = Run(model, scenario, requests, seed)
        busy = sum(run.iterate() for run in judged) > 0
    costs, pace = fitted(told, scenario)
    predicted = simulate(costs, scenario, requests, pace=pace.tolist())
    steady, (one, other), row = simulate(costs, scenario, requests), (run.figures for run in judged), {}
    for name in FIGURES:
        row[name] = measured = mean((one[name], other[name]))
        row[f"{name} apart %"] = 100 * abs(one[name] - other[name]) / measured
        row[f"{name} off %"] = 100 * (predicted[name] / measured - 1)
        row[f"{name} steady off %"] = 100 * (steady[name] / measured - 1)
    return row


def loads(size: str) -> list[dict[str, Any]]:
    """One network at each load."""
    model, scenario, requests = hybrid(*SIZES[size]), SCENARIOS[size], REQUESTS[size]
    costs = measured_costs(model, replace(scenario, arrivals=1.0))
    full = costs.step_ms(scenario.batch) / scenario.batch
    most = 1e3 / (costs.token_ms * scenario.prompt + costs.chunk_ms + (scenario.new_tokens - 1) * full)
    rows = []
    for share in LOADS:
        load = replace(scenario, arrivals=share * most)
        row: dict[str, Any] = {"size": size, "load": share, "requests": requests, "arrivals/s": load.arrivals}
        rows.append(row | compare(model, load, requests))
        keep_row("loads", COMMAND, ["size", "load"], rows[-1])
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Run, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=list(SIZES))
    chosen = parser.parse_args()
    sizes = [chosen.size] if chosen.size else list(SIZES)
    rows = [row for size in sizes for row in loads(size)]
    errors = [
        {"size": size, "figure": name, "error": kind, "mean %": mean(off), "largest %": max(off)}
        for size in sizes
        for name in FIGURES
        for kind in ("apart", "off", "steady off")
        for off in [[abs(row[f"{name} {kind} %"]) for row in rows if row["size"] == size]]
    ]
    show("six loads", errors)


if __name__ == "__main__":
    main()
