"""The simulation of a server under six loads against its measurement, for two networks.

    python -m benchmarks.life.loads [--size small|large]

Two loads of equal rate and different seeds run in turns, an iteration of the engine each. From the first one
the times of a network are fitted (reading a token, a step by its rows); with these the simulation says
throughput and percentiles of the times to the first token and for each further one of the second load, which
was measured in the same minutes: others compute on the same machine, and its pace changes. The clock is
processor time.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from statistics import mean
from typing import Any

import numpy as np

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
REQUESTS = 40
SCENARIOS = {
    "small": Scenario(batch=8, prompt=64, new_tokens=24),
    "large": Scenario(batch=8, prompt=32, new_tokens=12),
}


def fitted(run: Run, scenario: Scenario) -> Costs:
    """A token's reading and a step by its rows, as a straight line, from the iterations of a run."""
    told = np.array(run.iterations)
    tokens, rows, ms = told[:, 0], told[:, 1], 1e3 * told[:, 2]
    found, *_ = np.linalg.lstsq(np.stack([tokens, rows > 0, rows], 1), ms, rcond=None)
    counts = tuple(range(1, scenario.batch + 1))
    return Costs(float(found[0]), 0.0, counts, tuple(float(found[1] + found[2] * count) for count in counts))


def compare(model: Model, scenario: Scenario) -> tuple[dict[str, float], dict[str, float]]:
    """Predicted and measured figures under one load."""
    known, judged = (Run(model, scenario, REQUESTS, seed) for seed in (1, 0))
    busy = True
    while busy:
        busy = known.iterate() | judged.iterate()
    return simulate(fitted(known, scenario), scenario, REQUESTS, seed=0), judged.figures


def loads(size: str) -> list[dict[str, Any]]:
    """One network at each load."""
    model, scenario = hybrid(*SIZES[size]), SCENARIOS[size]
    costs = measured_costs(model, replace(scenario, arrivals=1.0))
    full = costs.step_ms(scenario.batch) / scenario.batch
    most = 1e3 / (costs.token_ms * scenario.prompt + costs.chunk_ms + (scenario.new_tokens - 1) * full)
    rows = []
    for share in LOADS:
        load = replace(scenario, arrivals=share * most)
        predicted, measured = compare(model, load)
        row: dict[str, Any] = {"size": size, "load": share, "arrivals/s": load.arrivals}
        for name in FIGURES:
            row |= {name: measured[name], f"{name} off %": 100 * (predicted[name] / measured[name] - 1)}
        rows.append(row)
        keep_row("loads", COMMAND, ["size", "load"], row)
        print(row, flush=True)
    return rows


def main() -> None:
    """Run, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=list(SIZES))
    chosen = parser.parse_args()
    sizes = [chosen.size] if chosen.size else list(SIZES)
    rows = [row for size in sizes for row in loads(size)]
    errors = [
        {"size": size, "figure": name, "mean off %": mean(off), "largest off %": max(off)}
        for size in sizes
        for name in FIGURES
        for off in [[abs(row[f"{name} off %"]) for row in rows if row["size"] == size]]
    ]
    show("six loads", errors)


if __name__ == "__main__":
    main()
