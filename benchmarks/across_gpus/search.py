"""Candidates an hour from scratch, with one actor a GPU and with four quarters a GPU.

    python -m benchmarks.across_gpus.search --gpus 1 2
    python -m benchmarks.across_gpus.search --gpus 1 --actors 1 2 4 8 --steps 40 --trials 12  # shares
    python -m benchmarks.across_gpus.search --cpu

Each run is one search by `random` (whose proposals hear no outcome) over the `gpu` space in a process of its
own, which sees so many GPUs. A trial trains for `--steps` steps. Rates are candidates over seconds `overall`,
from the first proposal to the last outcome, and `while candidates wait`: from the first outcome until fewer
candidates are left than there are actors. In that stretch every GPU is sampled (`across_gpus_search.svg`).
Proposals and scores are compared with those of the first run, whose actors compile what the later ones find
in the cache (`cold`; its rates are no figures of the row).

`from the supernet` scores by a supernet of the space `laptop`: the weights that an actor has read are counted
where they are read.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nas
from benchmarks.across_gpus.bench import Bench, Child, parser, say
from benchmarks.across_gpus.utilization import Sampled, draw
from benchmarks.cluster.progress import free_port
from benchmarks.common import RESULTS
from evaluators.supernet import evaluator as supernets
from nas.executors.node_settings import NodeSettings
from nas.executors.ray_nodes import start_head, stop

MODULE = "benchmarks.across_gpus.search"
VISIBLE = "CUDA_VISIBLE_DEVICES"
TRIALS, STEPS = 16, 100
QUARTERS = 4


@dataclass(frozen=True)
class Case:
    """One search."""

    gpus: int
    actors: int
    trials: int
    steps: int
    evaluator: str = "scratch"
    cold: bool = False
    """Whether its kernels and regions may not be compiled yet."""

    @property
    def kind(self) -> str:
        """What the option `--only` calls it."""
        if self.evaluator == "supernet":
            return "supernet"
        if self.cold:
            return "cold"
        return "whole" if self.actors == self.gpus else "quarters"

    @property
    def share(self) -> float:
        """GPUs of an actor."""
        return self.gpus / self.actors


def cases(bench: Bench, trials: int, steps: int, shares: Sequence[int] = ()) -> Iterator[Case]:
    """All GPUs in quarters, to compile; one actor on one GPU; shares after whole ones; from the supernet."""
    counts = sorted({1, *bench.gpus})
    yield Case(counts[-1], max(shares or (QUARTERS,)) * counts[-1], trials, steps, cold=True)
    for actors in shares or (1, QUARTERS):
        for gpus in counts:
            yield Case(gpus, actors * gpus, trials, steps)
    for actors in shares or (1,):
        yield Case(counts[-1], actors * counts[-1], 2 * trials, steps, evaluator="supernet")


def weights_read(spec: Any) -> float:
    """How many supernets this process has read so far."""
    return float(supernets._opened.cache_info().misses)


def one(case: Case, folder: Path, address: str | None, *, cpu: bool) -> dict[str, Any]:
    """One search; when its trials began and ended, and what they came to."""
    from_supernet = case.evaluator == "supernet"
    settings: dict[str, Any] = {"train_on": "cpu" if cpu else "cuda:0", "train_batch": 16, "window": 512}
    if cpu or from_supernet:
        settings |= {"train_batch": 4, "window": 32}
    began = time.time()
    study = nas.search(
        "laptop" if cpu or from_supernet else "gpu",
        name="across",
        objectives=["bits_per_byte", weights_read if from_supernet else "weight_bytes"],
        evaluator=case.evaluator,
        strategy="random",
        trials=case.trials,
        train_steps=case.steps,
        validation_windows=16,
        finalists=0,
        baselines=(),
        store=folder / "study.db",
        workers=nas.Workers(case.actors, address=address, gpu_share=case.share),
        progress=False,
        **settings,
    )
    trials = [trial for trial in study.trials() if trial.stage == "search"]
    return {
        "began": began,
        "started": min(trial.started for trial in trials),
        "ended": sorted(trial.finished or 0.0 for trial in trials),
        "failed trials": sum(trial.state.value == "failed" for trial in trials),
        "reasons": sorted({trial.reason for trial in trials if trial.reason}),
        "by worker": sorted(Counter(trial.worker for trial in trials).values()),
        "scores": {t.digest: t.values["bits_per_byte"].value for t in trials if "bits_per_byte" in t.values},
        "read": [t.values["weights_read"].value for t in trials if "weights_read" in t.values],
    }


@contextmanager
def _head(case: Case, *, cpu: bool) -> Iterator[str | None]:
    """The cluster to join: on a CPU one with so many GPUs in words only; otherwise none, Ray starts here."""
    if not cpu:
        yield None
        return
    node = start_head(NodeSettings(cpus=case.actors, gpus=case.gpus), port=free_port())
    try:
        yield node.address
    finally:
        stop(node)


def judged(case: Case, found: dict[str, Any], sampled: Sampled) -> tuple[dict[str, Any], tuple[float, float]]:
    """Rates and busy shares of one search, and the stretch in which candidates waited."""
    ended, started = found["ended"], found["started"]
    last = max(1, len(ended) - case.actors)
    waiting = (ended[0], ended[last])
    hour = 3600.0
    row = {
        "seconds": ended[-1] - started,
        "an hour overall": hour * len(ended) / (ended[-1] - started),
        "an hour while candidates wait": hour * last / max(1e-9, waiting[1] - waiting[0]),
        "before the first proposal_s": started - found["began"],
        "busy": {device: sampled.share(device, *waiting) for device in sampled.samples},
        "failed trials": found["failed trials"],
        "reasons": found["reasons"],
        "by worker": found["by worker"],
    }
    return row, waiting


def compared(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """Whether proposals and scores are those of another search."""
    scores, others = found["scores"], expected["scores"]
    both = scores.keys() & others.keys()
    return {
        "same proposals": scores.keys() == others.keys(),
        "equal scores": sum(scores[digest] == others[digest] for digest in both),
        "of": len(both),
        "largest difference": max((abs(scores[d] / others[d] - 1) for d in both), default=None),
    }


def measure(bench: Bench, chosen: list[Case], folder: Path) -> None:
    """Every search in turn, alone on the host."""
    expected: dict[str, dict[str, Any]] = {}
    panels: list[Any] = []
    for number, case in enumerate(chosen):
        if bench.over:
            return
        out = folder / str(number)
        out.mkdir()
        words = ["--one", json.dumps(asdict(case)), str(out), *(["--cpu"] if bench.cpu else [])]
        with _head(case, cpu=bench.cpu) as address, Sampled(cpu=bench.cpu) as sampled:
            words += [] if address is None else ["--address", address]
            found = Child(MODULE, words, folder / f"{number}.txt").result(min(bench.limit, bench.left))
        if "failed" in found:
            bench.add({**asdict(case), **found})
            continue
        row, waiting = judged(case, found, sampled)
        row |= compared(found, expected.setdefault(case.evaluator, found))
        if read := found["read"]:
            row["weights read by a worker"] = max(read)
        panels.append(
            (
                f"{case.actors} {'actor' if case.actors == 1 else 'actors'}, {case.evaluator}",
                sampled.samples,
                dict.fromkeys(sampled.samples, waiting),
            )
        )
        draw(RESULTS / f"{bench.name}.svg", sorted(panels, key=lambda panel: int(panel[0].split()[0])))
        bench.add({**asdict(case), **row})


def main() -> None:
    """Every case."""
    options = parser(__doc__, seconds=300)
    options.add_argument("--trials", type=int, help="candidates of a search")
    options.add_argument("--steps", type=int, help="training steps of a candidate")
    options.add_argument("--actors", type=int, nargs="+", default=(), help="actors for each GPU")
    options.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options.add_argument("--address", help=argparse.SUPPRESS)
    options.add_argument("--only", choices=("whole", "quarters", "supernet"), help="only these searches")
    given = options.parse_args()
    if given.one:
        case, folder = Case(**json.loads(given.one[0])), Path(given.one[1])
        visible = os.environ.get(VISIBLE, ",".join(map(str, range(case.gpus)))).split(",")
        os.environ[VISIBLE] = ",".join(visible[: case.gpus])
        say(one(case, folder, given.address, cpu=given.cpu))
        return
    bench = Bench("search", given)
    trials, steps = (8, 2) if bench.cpu else (TRIALS, STEPS)
    with tempfile.TemporaryDirectory(prefix="ag", dir="/tmp") as name:  # Ray wants short paths
        chosen = list(cases(bench, given.trials or trials, given.steps or steps, given.actors))
        measure(bench, [case for case in chosen if given.only in (None, case.kind)], Path(name))


if __name__ == "__main__":
    main()
