"""Whether a latency table can be believed: its predictions against measured networks, and repeated profiles.

A table of a space with every registered kind of block is measured; then random networks that had no part in
it, over all kinds, depths and widths, are built and timed in sessions of their own. Targets on a CPU (on a
GPU): mean error at most 8 % (5 %), Kendall tau at least 0.9 (0.95), 9 of 10 measurements within the stated
interval, the table made in 180 s (60 s). Then the same two blocks are profiled in separate processes, alone
and beside a busy neighbour: the ratio of their times should range over at most 3 % by thread time and 5 % by
the wall clock.

    python -m benchmarks profiles                        # this machine: its GPU, if there is one
    python -m benchmarks.profiles --scenario "cuda:0,engine=graph,dtype=bfloat16" --networks 48
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from random import Random
from typing import Any

import torch

from benchmarks.common import keep
from hw_profiles.correction import accuracy
from hw_profiles.fingerprint import fingerprint
from hw_profiles.measure import measure_networks, rounds_of, undisturbed, warmed
from hw_profiles.parts import half, part_samples, part_tasks, parts_of
from hw_profiles.profiler import profile_space
from hw_profiles.samples import READINGS, Latency
from hw_profiles.selection import random_specs
from hw_profiles.table import LatencyTable
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block, blocks
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.choices import one_of, repeat
from search_spaces.decoder import Decoder, Layer
from search_spaces.errors import IllegalArchitecture
from search_spaces.model import build
from search_spaces.scenario import Scenario
from search_spaces.space import Space

OPEN: dict[str, tuple[int, ...]] = {
    "num_heads": (4, 8),
    "num_kv_heads": (1, 4),
    "head_dim": (16, 32),
    "state_dim": (8, 16, 32),
    "expansion": (2, 3, 4),
    "num_experts": (4, 8),
    "kernel": (3, 4, 7),
}
"""Fields that are left open, in every kind of block that has them."""

GROUP = 8
RUNS = 5
ROUNDS = 101


def space_of_all(widths: Sequence[int], depths: Sequence[int]) -> Space:
    """Every registered kind of block that can be built at these widths, its sizes left open."""
    kinds: dict[str, list[Block]] = {"sequence": [], "channels": []}
    for kind in blocks.values():
        open_block = _opened(kind, widths)
        if open_block is not None:
            kinds[kind.mixes].append(open_block)
    layer = Layer(sequence_mixer=one_of(*kinds["sequence"]), channel_mixer=one_of(*kinds["channels"]))
    return Space(
        Decoder(vocab=256, d_model=one_of(*widths), layers=repeat(layer, tuple(depths))), name="all kinds"
    )


def _opened(kind: type[Block], widths: Sequence[int]) -> Block | None:
    plain = kind()
    try:
        for width in widths:
            plain.check(width)
    except IllegalArchitecture:
        return None
    numbers = {f.name: getattr(plain, f.name) for f in fields(kind)}
    opened: dict[str, Any] = {
        name: one_of(*values)
        for name, values in OPEN.items()
        if isinstance(numbers.get(name), int) and not isinstance(numbers[name], bool)
    }
    return kind(**opened)


def compare(table: LatencyTable, space: Space, networks: int, seed: int) -> list[dict[str, Any]]:
    """Predicted and measured times of random networks, measured in groups after the table."""
    specs = list(random_specs(space, Random(f"benchmark/{seed}"), networks))
    rows = []
    for start in range(0, len(specs), GROUP):
        group = specs[start : start + GROUP]
        found = measure_networks(
            [build(spec) for spec in group],
            table.scenario,
            rounds=15,
            reference_ms=table.provenance.reference_ms,
        )
        rows += [_row(table, spec, measured) for spec, measured in zip(group, found, strict=True)]
    return rows


def _row(table: LatencyTable, spec: Decoder, measured: dict[str, Latency]) -> dict[str, Any]:
    predicted, intervals = table.predict(spec), table.interval(spec)
    row: dict[str, Any] = {
        "d_model": spec.d_model,
        "layers": len(spec.layers),
        "kinds": sorted({part.kind for part in parts_of(spec)} - {""}),
    }
    for reading in READINGS:
        row[reading] = {
            "predicted": predicted[reading][0],
            "interval": list(intervals[reading]),
            "measured": measured[reading].median_ms,
            "measured_interval": list(measured[reading].interval_ms),
            "unsettled": measured[reading].unsettled,
        }
    return row


def judged(rows: Sequence[dict[str, Any]], reading: str) -> dict[str, Any]:
    """Mean error, rank agreement and coverage of the intervals."""
    cells = [row[reading] for row in rows]
    found = accuracy([cell["predicted"] for cell in cells], [cell["measured"] for cell in cells])
    inside = sum(cell["interval"][0] <= cell["measured"] <= cell["interval"][1] for cell in cells)
    widths = sorted((cell["interval"][1] / cell["predicted"] - 1) for cell in cells)
    return {
        "reading": reading,
        "networks": len(cells),
        "MAPE": found.mape,
        "bias": found.bias,
        "tau": found.tau,
        "inside 90 %": inside / len(cells),
        "half width": widths[len(widths) // 2],
    }


def ratios(scenario: Scenario) -> dict[str, float]:
    """Time of one block over that of another, by reading and clock, in this process."""
    pair = {"attention": half(Attention(), 192, 16), "mamba2": half(Mamba2(), 192, 16)}
    with undisturbed(scenario):
        tasks = {
            f"{name} {key}": task
            for name, part in pair.items()
            for key, task in part_tasks(part, scenario).items()
        }
        session = warmed(rounds_of(tasks, scenario), scenario)
        for _ in range(ROUNDS):
            session.take_round()
    found = {}
    for clock, timed in (("thread", session.ratios), ("wall", session.walls)):
        own = {
            name: part_samples({k.partition(" ")[2]: v for k, v in timed.items() if k.startswith(name)})[0]
            for name in pair
        }
        for reading in READINGS:
            one, other = (Latency(tuple(own[name][reading])).median_ms for name in pair)
            found[f"{reading} {clock}"] = one / other
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


def repeatability(scenario: str) -> list[dict[str, Any]]:
    """How far the ratio of two blocks ranges over separate processes."""
    rows = []
    for busy in (False, True):
        with neighbour(busy):
            command = [sys.executable, "-m", "benchmarks.profiles", "--ratios", "--scenario", scenario]
            runs = [
                json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                for _ in range(RUNS)
            ]
        for name in runs[0]:
            values = [run[name] for run in runs]
            rows.append(
                {
                    "ratio": name,
                    "busy neighbour": busy,
                    "runs": len(values),
                    "median": sorted(values)[len(values) // 2],
                    "range": max(values) / min(values) - 1,
                }
            )
    return rows


def told(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print rows; plainly, because a device may have little installed."""
    print(title)
    for row in rows:
        print(
            "  " + "  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        )


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """What to run."""
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiles")
    parser.add_argument(
        "--scenario", default="cuda:0,engine=graph,dtype=bfloat16,prompt=512" if on_gpu else "cpu"
    )
    parser.add_argument("--seconds", type=float, default=60.0 if on_gpu else 180.0)
    parser.add_argument("--networks", type=int, default=48)
    parser.add_argument("--widths", default="256,512,1024" if on_gpu else "128,192,256")
    parser.add_argument("--depths", default="4,8,12" if on_gpu else "4,6,8")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ratios", action="store_true", help="print the ratio of two blocks, once")
    parser.add_argument("--no-repeatability", action="store_true")
    return parser.parse_args(argv)


def main(argv: Sequence[str] = ()) -> None:
    """Run, print and keep everything."""
    asked = arguments(argv)
    scenario = Scenario.parse(asked.scenario)
    if asked.ratios:
        print(json.dumps(ratios(scenario)))
        return
    widths, depths = (tuple(map(int, text.split(","))) for text in (asked.widths, asked.depths))
    space = space_of_all(widths, depths)
    began = time.monotonic()
    table = profile_space(space, scenario, seconds=asked.seconds, seed=asked.seed)
    seconds = time.monotonic() - began
    print(table)
    rows = compare(table, space, asked.networks, asked.seed)
    summary = [judged(rows, reading) for reading in READINGS]
    told("Predicted against measured networks", summary)
    began = time.monotonic()
    table.predict_many([spec for spec in random_specs(space, Random("speed"), 500) for _ in range(20)])
    speed = time.monotonic() - began
    again = [] if asked.no_repeatability else repeatability(asked.scenario)
    if again:
        told("The ratio of two blocks, in separate processes", again)
    print(f"the table took {seconds:.0f} s, 10,000 predictions {speed:.2f} s")
    keep(
        "profiles_cuda" if scenario.device.startswith("cuda") else "profiles_cpu",
        f'python -m benchmarks.profiles --scenario "{asked.scenario}"',
        rows,
        summary=summary,
        repeatability=again,
        scenario=scenario.conditions(),
        fingerprint=fingerprint(scenario),
        table={
            "seconds": seconds,
            "parts measured": len(table.entries),
            "kinds": len(blocks),
            "notes": table.provenance.notes,
            "prediction of 10,000 networks, s": speed,
        },
    )


if __name__ == "__main__":
    main(sys.argv[1:])
