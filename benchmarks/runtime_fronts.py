"""A latency table for each runtime against networks held out, and which networks win in which runtime.

    nice -n 10 python -m benchmarks.runtime_fronts --engines eager onnxruntime executorch
    nas compare eager onnxruntime executorch --store .cache/runtime_fronts/studies.db

One small space of attention, short convolution and retention, prompts of 128 tokens, one CPU thread. Of each
runtime: a latency table, and how far it errs on networks that its correction never saw, those that it held
out itself and as many more as it takes. Then a study searches the space by bits per byte and prefill, scored
by the weights of one supernet (all studies train it alike), and the fronts are laid over each other. Written
after each step; what was done before is not done again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch

import nas
from benchmarks.common import RESULTS, provenance, show_plainly
from benchmarks.profiles.accuracy import judged, measured, row
from dashboards.facts.comparison import read_comparison
from foundation.files import read_json, write_json
from hw_profiles.latency.profiler import profile_space
from hw_profiles.latency.selection import random_specs
from hw_profiles.latency.table import LatencyTable
from hw_profiles.timing.timings import READINGS
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.retention import Retention
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.scenario import Scenario

COMMAND = "python -m benchmarks.runtime_fronts"
ENGINES = ("eager", "onnxruntime", "executorch")
GROUP = 4
"""Networks that are timed together."""

OBJECTIVES = ("bits_per_byte", "prefill_ms")


def main() -> None:
    """Tables, then studies; print and keep."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    words.add_argument("--engines", nargs="+", default=ENGINES)
    words.add_argument("--networks", type=int, default=20, help="held out, for each table")
    words.add_argument("--seconds", type=float, default=60.0, help="of timing, for each table")
    words.add_argument("--trials", type=int, default=60, help="networks to score in each study; 0: none")
    words.add_argument("--home", type=Path, default=Path(".cache/runtime_fronts"), help="where all is kept")
    words.add_argument("--output", type=Path, default=RESULTS / "runtime_fronts.json")
    given = words.parse_args()
    torch.set_num_threads(1)
    given.home.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = read_json(given.output) if given.output.exists() else {}
    for engine in given.engines:
        if len(found.get(engine, {}).get("networks", ())) < given.networks:
            for rows in table_rows(engine, given, found.get(engine, {}).get("networks", [])):
                summary = [judged(rows, reading) for reading in READINGS]
                found[engine] = {"about": provenance(COMMAND), "summary": summary, "networks": rows}
                write_json(given.output, found, indent=1)
        show_plainly(f"{engine}: predicted against measured", found[engine]["summary"])
    if given.trials and len(given.engines) > 1:
        facts = read_comparison([searched(engine, given) for engine in given.engines])
        found |= {"about": provenance(COMMAND), "fronts": facts.to_json()}
        write_json(given.output, found, indent=1)
        print("", *facts.notes, sep="\n")


def space() -> Space:
    """Networks of two or three layers, 64 or 128 wide."""
    layer = Layer(
        sequence_mixer=one_of(
            Attention(num_heads=4, num_kv_heads=1, head_dim=16),
            ShortConv(),
            Retention(num_heads=4, head_dim=16, state_dim=16),
        ),
        channel_mixer=SwiGLU(expansion=one_of(1, 3)),
    )
    return Space(Decoder(d_model=one_of(64, 128), layers=repeat(layer, (2, 3))), name="runtimes")


def scenario_of(engine: str) -> Scenario:
    """The same for all runtimes."""
    return Scenario(engine=engine, prompt=128, new_tokens=64)


def table_path(engine: str, given: argparse.Namespace) -> Path:
    """Where the table of a runtime is kept."""
    return Path(given.home, f"{engine}.json")


def table_rows(engine: str, given: argparse.Namespace, rows: list[dict[str, Any]]) -> Iterator[list[Any]]:
    """Networks that were held out, predicted and measured, more of them each time, after those in `rows`.

    The table is made where it is not there.
    """
    scenario, path = scenario_of(engine), table_path(engine, given)
    if path.exists():
        table = LatencyTable.load(path, scenario)
    else:
        partial = path.with_suffix(".partial.json")
        table = profile_space(space(), scenario, seconds=given.seconds, partial=partial, output=path)
    print(table, flush=True)
    own = [row(table, each.spec, each.measured) for each in table.networks if each.held_out]
    rows = [*(rows or own)]
    if rows:
        yield rows
    others = list(random_specs(space(), Random("held out"), max(0, given.networks - len(own))))
    for start in range(len(rows) - len(own), len(others), GROUP):
        rows = [*rows, *measured(table, others[start : start + GROUP])]
        yield rows


def searched(engine: str, given: argparse.Namespace) -> nas.Study:
    """The study of a runtime, begun or gone on with."""
    return nas.search(
        space(),
        name=engine,
        store=given.home / "studies.db",
        objectives=OBJECTIVES,
        scenarios=(scenario_of(engine),),
        latency_tables=(str(table_path(engine, given)),),
        train_steps=100,
        train_batch=4,
        window=128,
        validation_windows=16,
        trials=given.trials,
        baselines=(),
    )


if __name__ == "__main__":
    main()
