"""Predicted against measured whole networks that had no part in the table."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.profiles.results import Result, show
from benchmarks.profiles.spaces import failing_kinds, space_of_all
from hw_profiles.latency.correction import accuracy
from hw_profiles.latency.parts import parts_of
from hw_profiles.latency.profiler import profile_space
from hw_profiles.latency.selection import random_specs
from hw_profiles.latency.table import LatencyTable
from hw_profiles.timing.measure import measure_networks
from hw_profiles.timing.timings import READINGS, Latency
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import build
from search_spaces.scenario import Scenario

GROUP = 8
"""Networks that are built and timed together."""

ROUNDS = 15

SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "cpu": ((128, 192, 256), (4, 6, 8)),
    "cuda": ((256, 512, 1024), (4, 8, 12)),
    "tiny": ((32, 64), (1, 2)),
}
"""Widths and depths of the networks."""

Rows = list[dict[str, Any]]


def run(
    scenario: Scenario,
    result: Result,
    *,
    size: str,
    networks: int,
    seconds: float,
    limit: float,
    seed: int,
    output: Path | None = None,
) -> None:
    """Make the table, then time networks until there are enough or `limit` seconds are over."""
    widths, depths = SIZES[size]
    failed = failing_kinds(scenario, widths[0])
    if failed:
        show("Kinds that cannot be run here", [failed])
    space = space_of_all(widths, depths, without=failed)
    began = time.monotonic()
    partial = result.path.with_suffix(".partial")
    table = profile_space(space, scenario, seconds=seconds, seed=seed, partial=partial, output=output)
    about = {
        "seconds": round(time.monotonic() - began, 1),
        "parts measured": len(table.entries),
        "kinds": len({part.kind for part in table.entries} - {""}),
        "kinds that cannot be run here": failed,
        "on its own held-out networks": {r: vars(table.accuracies[r]) for r in READINGS},
        "notes": table.provenance.notes,
    }
    print(table, flush=True)
    specs, rows = list(random_specs(space, Random(f"benchmark/{seed}"), networks)), Rows()
    for start in range(0, len(specs), GROUP):
        if rows and time.monotonic() - result.started > limit:
            break
        rows += measured(table, specs[start : start + GROUP])
        summary = [judged(rows, reading) for reading in READINGS]
        result.write(rows, complete=len(rows) == networks, summary=summary, table=about)
        show(f"Predicted against measured, {len(rows)} of {networks} networks", summary)


def measured(table: LatencyTable, specs: Sequence[Decoder]) -> Rows:
    """Some networks, timed together in a session of their own."""
    device = table.scenario.device
    found = measure_networks(
        [build(spec, device=device) for spec in specs],
        table.scenario,
        rounds=ROUNDS,
        reference_ms=table.provenance.reference_ms,
    )
    return [row(table, spec, each) for spec, each in zip(specs, found, strict=True)]


def row(table: LatencyTable, spec: Decoder, found: Mapping[str, Latency]) -> dict[str, Any]:
    """What was predicted of a network, and what it took."""
    predicted, intervals = table.predict(spec), table.interval(spec)
    told: dict[str, Any] = {
        "d_model": spec.d_model,
        "layers": len(spec.layers),
        "kinds": sorted(part.kind for part in parts_of(spec) if part.kind),
    }
    for reading in READINGS:
        told[reading] = {
            "predicted": predicted[reading][0],
            "interval": list(intervals[reading]),
            "measured": found[reading].median_ms,
            "measured_interval": list(found[reading].interval_ms),
            "unsettled": found[reading].unsettled,
        }
    return told


def judged(rows: Sequence[dict[str, Any]], reading: str) -> dict[str, Any]:
    """Mean error, rank agreement and coverage of the intervals."""
    cells = [each[reading] for each in rows]
    found = accuracy([cell["predicted"] for cell in cells], [cell["measured"] for cell in cells])
    inside = sum(cell["interval"][0] <= cell["measured"] <= cell["interval"][1] for cell in cells)
    widths = sorted((cell["interval"][1] / cell["predicted"] - 1) for cell in cells)
    return {
        "reading": reading,
        "networks": len(cells),
        "kinds": len({kind for each in rows for kind in each["kinds"]}),
        "MAPE": found.mape,
        "bias": found.bias,
        "tau": found.tau,
        "tau interval": [found.tau_low, found.tau_high],
        "inside 90 %": inside / len(cells),
        "half width": widths[len(widths) // 2],
        "unsettled": sum(cell["unsettled"] is not None for cell in cells),
    }
