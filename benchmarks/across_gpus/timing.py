"""A latency table of one GPU while the others of its host train, against tables of the idle host.

    python -m benchmarks.across_gpus.timing --gpus 1 2
    python -m benchmarks.across_gpus.timing --cpu

Each table is measured on the first GPU, by a process of its own: while the host is idle, while a supernet is
trained on each of the other GPUs, and while it is idle once more. `busy` and `again` are ratios of the second
and the third table to the first, over all parts that both have: the geometric mean, and the range of nine
tenths. What `again` is off by, two tables of an idle host are; it is the row of one GPU, which has no others.

The rehearsal keeps the table on the first core of the CPU, and trains on the second.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.across_gpus.bench import Bench, Child, parser, say
from evaluators.corpus import load_corpus
from evaluators.supernet.training import SupernetTraining
from evaluators.tasks.language import LanguageModelling
from evaluators.training.execution import Execution
from evaluators.training.recipe import Recipe
from hw_profiles.latency.comparison import compare
from hw_profiles.latency.profiler import profile_space
from hw_profiles.latency.table import LatencyTable
from search_spaces.scenario import Scenario
from search_spaces.spaces import spaces

MODULE = "benchmarks.across_gpus.timing"
VISIBLE = "CUDA_VISIBLE_DEVICES"
ON_GPU = "cuda:0,engine=graph,batch=8,prompt=512,new_tokens=128,dtype=bfloat16"
ON_CPU = "cpu,batch=1,prompt=32,new_tokens=4"
TABLE_SECONDS, SMALL_TABLE_SECONDS = 45.0, 3.0
WARM_STEPS = 3
"""After which a training counts as under way."""

AGREE = 0.03
"""By how much tables may differ on average."""


def measure(bench: Bench, seconds: float, folder: Path) -> None:
    """One GPU first: idle, and idle again; then for each number of GPUs a table while the others train."""
    idle = _table(bench, seconds, folder / "idle.json")
    if idle is None:
        return
    for gpus in [n for n in bench.gpus if n > 1]:
        trainers = [_trainer(bench, number, folder) for number in range(1, gpus)]
        try:
            if all(_begun(bench, trainer, folder / f"train{n}") for n, trainer in enumerate(trainers, 1)):
                _compared(bench, gpus, "busy", idle, _table(bench, seconds, folder / f"busy{gpus}.json"))
            else:
                bench.add({"gpus": gpus, "case": "busy", "failed": "the trainings did not begin"})
        finally:
            for trainer in trainers:
                trainer.end()
        for number in range(1, gpus):
            (folder / f"train{number}").unlink(missing_ok=True)
    if not bench.over:
        _compared(bench, 1, "again", idle, _table(bench, seconds, folder / "again.json"))


def _compared(bench: Bench, gpus: int, case: str, idle: LatencyTable, other: LatencyTable | None) -> None:
    if other is not None:
        bench.add({"gpus": gpus, "case": case, **ratios(idle, other)})


def ratios(one: LatencyTable, other: LatencyTable) -> dict[str, Any]:
    """By reading: the mean ratio of the second to the first, and the range of nine tenths of the parts."""
    row: dict[str, Any] = {}
    for reading, of_parts in compare(one, other).ratios.items():
        logs = sorted(map(math.log, of_parts.values()))
        if len(logs) < 2:
            continue
        low, *_, high = statistics.quantiles(logs, n=20, method="inclusive")
        row[reading] = math.exp(statistics.fmean(logs))
        row[f"{reading}, nine tenths"] = f"{math.exp(low):.3f} to {math.exp(high):.3f}"
        row["parts"] = len(logs)
    means = [row[reading] for reading in compare(one, other).ratios if reading in row]
    row["agree"] = bool(means) and all(abs(mean - 1) <= AGREE for mean in means)
    return row


def _table(bench: Bench, seconds: float, path: Path) -> LatencyTable | None:
    """A table, measured by a process of its own; None where it failed, which is kept as a row."""
    words = ["--one", "table", str(path), "--table-seconds", str(seconds), *(["--cpu"] if bench.cpu else [])]
    found = Child(MODULE, words, path.with_suffix(".txt")).result(min(bench.limit, bench.left))
    if "failed" in found:
        bench.add({"case": path.stem, **found})
        return None
    return LatencyTable.load(path)


def _trainer(bench: Bench, number: int, folder: Path) -> Child:
    """A training on the GPU of this number, which goes on until it is ended."""
    words = ["--one", "train", str(folder / f"train{number}"), *(["--cpu"] if bench.cpu else [])]
    visible = os.environ.get(VISIBLE, "").split(",")
    gpu = visible[number] if number < len(visible) else str(number)
    return Child(MODULE, [*words, "--on", gpu], folder / f"train{number}.txt")


def _begun(bench: Bench, trainer: Child, mark: Path) -> bool:
    """Whether a training is under way, within the limit."""
    end = time.monotonic() + min(bench.limit, bench.left)
    while not mark.exists():
        if trainer.process.poll() is not None or time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def measured(path: Path, seconds: float, *, cpu: bool) -> dict[str, Any]:
    """As a process of its own: a table of the space `gpu` (rehearsed: of `laptop`)."""
    if cpu:
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    scenario = Scenario.parse(ON_CPU if cpu else ON_GPU)
    profile_space(spaces["laptop" if cpu else "gpu"](), scenario, seconds=seconds, output=path)
    return {"table": str(path)}


def trained(mark: Path, *, cpu: bool) -> None:
    """As a process of its own: steps of a supernet, without end; a file says that they are under way."""
    if cpu:
        os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])
    device = "cpu" if cpu else "cuda:0"
    training = SupernetTraining(
        spaces["laptop" if cpu else "gpu"](),
        LanguageModelling(load_corpus().folder, length=32 if cpu else 512),
        steps=10**7,
        seed=0,
        batch=4 if cpu else 16,
        recipe=Recipe() if cpu else Recipe(precision="bfloat16"),
        execution=replace(Execution.for_device(device), compile="none"),
    )
    while True:
        training.learn()
        if training.step == WARM_STEPS:
            mark.touch()


def main(given_words: Sequence[str] | None = None) -> None:
    """The tables, one after the other."""
    options = parser(__doc__, seconds=420)
    options.add_argument("--table-seconds", type=float, help="of each table")
    options.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options.add_argument("--on", help=argparse.SUPPRESS)
    given = options.parse_args(given_words)
    if given.on is not None:
        os.environ[VISIBLE] = given.on
    seconds = given.table_seconds or (SMALL_TABLE_SECONDS if given.cpu else TABLE_SECONDS)
    if given.one:
        what, path = given.one
        if what == "train":
            trained(Path(path), cpu=given.cpu)
        say(measured(Path(path), seconds, cpu=given.cpu))
        return
    bench = Bench("timing", given)
    with tempfile.TemporaryDirectory(prefix="timing-") as folder:
        measure(bench, seconds, Path(folder))
    print(json.dumps({row["case"]: row.get("agree") for row in bench.rows}))


if __name__ == "__main__":
    main()
