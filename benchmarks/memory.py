"""Whether predicted memory can be believed: weights, state and peaks against what the allocator hands out.

Random networks over every registered kind of block, then each kind by itself, twice in a small network, so
that a deviation can be traced to a block. Target on a GPU: every peak within 3 %. On a CPU in float32 the
prediction should be nearly exact.

    python -m benchmarks memory                        # this machine: its GPU, if there is one
    python -m benchmarks.memory --device cuda:0 --networks 20 --out memory.json
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch

from benchmarks.common import RESULTS
from benchmarks.profiles.command import without_paths
from benchmarks.profiles.results import Result, show
from benchmarks.profiles.spaces import space_of_all
from foundation.errors import IllegalArchitecture, NasError
from hw_profiles.latency.selection import random_specs
from hw_profiles.memory.prediction import measure_memory, predict_memory
from search_spaces.blocks.base import blocks
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.scenario import Scenario

TARGET = 0.03

SCENARIOS = {
    "cpu": "cpu,batch=2,prompt=128,new_tokens=32",
    "cuda": "{device},dtype=bfloat16,batch=4,prompt=1024,new_tokens=128",
}
SIZES = {"cpu": ((128, 192), (2, 4)), "cuda": ((512, 1024), (4, 8))}
"""Widths and depths of the networks."""


def compared(name: str, spec: Decoder, scenario: Scenario) -> dict[str, Any]:
    """Predicted and measured bytes of one network, and how far the peaks are off."""
    said = predict_memory(spec, scenario).emulated
    gc.collect()
    found = measure_memory(build(spec, device=scenario.device), scenario)
    row: dict[str, Any] = {"network": name, "d_model": spec.d_model, "layers": len(spec.layers)}
    for what in ("weight_bytes", "state_bytes", "prefill_bytes", "decode_bytes"):
        row |= {f"{what} predicted": getattr(said, what), f"{what} measured": getattr(found, what)}
    for what in ("prefill_peak_bytes", "decode_peak_bytes"):
        row[f"{what} off"] = getattr(said, what) / getattr(found, what) - 1
    return row


def by_kind(scenario: Scenario, d_model: int) -> list[dict[str, Any]]:
    """Each kind of block by itself."""
    rows = []
    for name, kind in blocks.items():
        block = kind()
        mixers = (block, None) if block.mixes == "sequence" else (ShortConv(), block)
        spec = Decoder(
            d_model=d_model, layers=(Layer(sequence_mixer=mixers[0], channel_mixer=mixers[1]),) * 2
        )
        try:
            spec.check()
        except IllegalArchitecture:
            continue
        rows.append(_tried(name, spec, scenario))
    return rows


def _tried(name: str, spec: Decoder, scenario: Scenario) -> dict[str, Any]:
    """One comparison, or the reason why there is none: one block must not end the others.

    A GPU of which a kernel read what is not there computes nothing more in this process.
    """
    try:
        return compared(name, spec, scenario)
    except torch.AcceleratorError as error:
        raise SystemExit(f"network {name}: {str(error).splitlines()[0]}\n{spec}") from error
    except (NasError, RuntimeError) as error:
        return {"network": name, "failed": str(error).partition("\n")[0]}


def judged(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many peaks are within the target, and the worst."""
    off = {what: [row[f"{what}_peak_bytes off"] for row in rows] for what in ("prefill", "decode")}
    return {
        "networks": len(rows),
        **{f"{what}: within 3 %": sum(abs(v) <= TARGET for v in values) for what, values in off.items()},
        **{f"{what}: worst": max(values, key=abs, default=0.0) for what, values in off.items()},
    }


def shown(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is printed of each row."""
    return [
        {k: v for k, v in row.items() if k in ("network", "d_model", "layers", "failed") or k.endswith("off")}
        for row in rows
    ]


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """What to run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--scenario", help="instead of the usual one of the device")
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/memory_DEVICE.json")
    return parser.parse_args(argv)


def main(argv: Sequence[str] = ()) -> None:
    """Run, print and keep everything."""
    asked = arguments(argv)
    kind = asked.device.partition(":")[0]
    scenario = Scenario.parse(asked.scenario or SCENARIOS[kind].format(device=asked.device))
    widths, depths = SIZES[kind]
    path = asked.out or RESULTS / f"memory_{kind}.json"
    result = Result(path, f"python -m benchmarks.memory {without_paths(argv)}".strip(), scenario)
    specs = random_specs(space_of_all(widths, depths), Random(f"memory/{asked.seed}"), asked.networks)
    rows = [_tried(str(i), spec, scenario) for i, spec in enumerate(specs)]
    summary = judged([row for row in rows if "failed" not in row])
    show("Random networks over all kinds", shown(rows))
    show("Peaks, predicted over measured", [summary])
    result.write(rows, complete=False, summary=summary)
    kinds = by_kind(scenario, widths[0])
    show("Each kind of block, twice", shown(kinds))
    result.write(rows, complete=True, summary=summary, kinds=kinds)


if __name__ == "__main__":
    main(sys.argv[1:])
