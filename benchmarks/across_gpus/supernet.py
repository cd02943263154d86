"""A supernet of the `gpu` space by data parallelism: speed, equality of losses, a killed process.

    python -m benchmarks.across_gpus.supernet --gpus 1 2
    python -m benchmarks.across_gpus.supernet --cpu

`strong` shares the space's own batch among all GPUs, `weak` gives each GPU a batch of that size; efficiency
is over one GPU with the space's own batch. A step reads four networks. All numbers of GPUs train the same
networks in the same steps; these are done once to learn (the losses that are compared) and once more to be
timed, when all kernels of their shapes are there. `float32` compares losses without the rounding of bfloat16.

The last rows train the space `laptop` by the command: a process is killed with SIGKILL, which must end the
command with one line, and the training goes on in another number of processes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from benchmarks.across_gpus.bench import Bench, Child, difference, parser, peak_bytes, ready, say, wait_for
from benchmarks.cluster.processes import descendants, kill, title
from evaluators.corpus import load_corpus
from evaluators.supernet.folder import verified_progress
from evaluators.supernet.training import SupernetTraining
from evaluators.tasks.language import LanguageModelling
from evaluators.training.distributed import OnStep, train_distributed
from evaluators.training.execution import BACKENDS, Execution
from evaluators.training.process_group import ProcessGroup
from evaluators.training.recipe import Recipe
from foundation.errors import NasError
from search_spaces.spaces import spaces

MODULE = "benchmarks.across_gpus.supernet"
COMMAND_STEPS, SMALL_COMMAND_STEPS = 600, 80
"""Of the command: more than it does until its first checkpoint, after 20 seconds."""


@dataclass(frozen=True)
class Case:
    """One measurement: the supernet, its batch over all processes, and how it is computed."""

    gpus: int
    scaling: str
    batch: int
    precision: str
    compile: str
    space: str = "gpu"
    length: int = 512
    steps: int = 20

    @property
    def row(self) -> dict[str, Any]:
        """What it is, for the table."""
        return {name: value for name, value in asdict(self).items() if name not in ("length", "steps")}


def cases(bench: Bench, compile: str) -> Iterator[Case]:
    """One GPU first; then what matters most."""
    first = Case(1, "one", 16, "bfloat16", compile)
    if bench.cpu:
        first = replace(first, space="laptop", batch=8, length=32, steps=3)
    several = [gpus for gpus in bench.gpus if gpus > 1]
    yield first
    for gpus in several:
        yield replace(first, gpus=gpus, scaling="strong")
        yield replace(first, gpus=gpus, scaling="weak", batch=first.batch * gpus)
    exact = replace(first, precision="float32", compile="none", steps=min(first.steps, 10))
    yield exact
    for gpus in several:
        yield replace(exact, gpus=gpus, scaling="strong")


def one(case: Case, device: str, go: Path) -> dict[str, Any]:
    """One case in processes of its own, beginning when it is told."""
    out = go.parent
    prepare = partial(wait_for, str(go))
    train = partial(_train, case, device, str(out))
    train_distributed(train, case.gpus, device=device, prepare=prepare, share_cpus=True)
    ranks = [json.loads((out / f"{rank}.json").read_text()) for rank in range(case.gpus)]
    step_s = max(rank["step_s"] for rank in ranks)
    return {
        "step_ms": 1e3 * step_s,
        "tokens_per_s": ranks[0]["tokens"] / step_s,
        "peak": ranks[0]["peak"],
        "compiling_s": max(rank["compiling_s"] for rank in ranks),
        "prepare_s": ranks[0]["prepare_s"],
        "learning_s": ranks[0]["learning_s"],
        "losses": ranks[0]["losses"],
    }


def _train(case: Case, device: str, out: str, on_step: OnStep | None, *, process_group: ProcessGroup) -> None:
    """As one of the processes."""
    began = time.perf_counter()
    training = SupernetTraining(
        spaces[case.space](),
        LanguageModelling(load_corpus().folder, length=case.length),
        steps=100_000,
        seed=0,
        batch=case.batch,
        recipe=Recipe(precision=case.precision),
        execution=Execution.for_device(device, compile=case.compile),
        process_group=process_group,
    )
    ready(device)
    prepared = time.perf_counter()
    losses = [training.learn()[0] for _ in range(case.steps)]
    learned = time.perf_counter()
    training.step, times = 0, list[float]()
    for _ in range(case.steps):
        before = time.perf_counter()
        training.advance()
        ready(device)
        times.append(time.perf_counter() - before)
    found = {
        "tokens": training.pace.tokens,
        "prepare_s": prepared - began,
        "learning_s": learned - prepared,
        "step_s": statistics.mean(times),
        "compiling_s": training.regions.spent,
        "losses": losses,
        "peak": peak_bytes(device),
    }
    Path(out, f"{process_group.rank}.json").write_text(json.dumps(found))


def measure(bench: Bench, chosen: Sequence[Case], folder: Path) -> None:
    """Every case in turn; the next one's processes start beside it."""
    child = _started(bench, folder, 0, chosen[0])
    ones: dict[str, dict[str, Any]] = {}
    for number, case in enumerate(chosen):
        (folder / str(number) / "go").touch()
        more = number + 1 < len(chosen) and bench.left > bench.limit / 4
        following = _started(bench, folder, number + 1, chosen[number + 1]) if more else None
        row = child.result(min(bench.limit, bench.left))
        if "losses" in row:
            one_gpu = ones.setdefault(case.precision, row)
            row["efficiency"] = row["tokens_per_s"] / (case.gpus * one_gpu["tokens_per_s"])
            if case.scaling != "weak":
                row["difference"] = difference(row["losses"], one_gpu["losses"])
        bench.add({**case.row, **row})
        if following is None:
            return
        child = following


def _started(bench: Bench, folder: Path, number: int, case: Case) -> Child:
    out = folder / str(number)
    out.mkdir()
    words = ["--one", json.dumps(asdict(case)), str(out / "go"), *(["--cpu"] if bench.cpu else [])]
    return Child(MODULE, words, folder / f"{number}.txt")


def killed(bench: Bench, gpus: int, folder: Path) -> Iterator[dict[str, Any]]:
    """The command in `gpus` processes, one of which is killed; then the same command with one process."""
    for processes, kills in ((gpus, True), (1, False)):
        began, begun_at, limit = time.monotonic(), reached(folder), min(bench.limit, bench.left)
        output = folder.with_suffix(f".{processes}.txt")
        with output.open("w") as file:
            process = _command(bench, processes, folder, file)
            try:
                if kills:
                    _kill_one(process, folder, began + limit)
                code: int | None = process.wait(timeout=max(0.0, began + limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                code = None
            finally:
                process.kill()
                process.wait()
        lines = [line for line in output.read_text().splitlines() if line.strip()]
        yield {
            "case": "a process is killed" if kills else "it goes on",
            "gpus": processes,
            "exit": code,
            "begun at step": begun_at,
            "ended at step": reached(folder),
            "seconds": time.monotonic() - began,
            "last line": (lines or [""])[-1],
            "lines": lines,
        }


def _command(bench: Bench, processes: int, folder: Path, output: IO[str]) -> subprocess.Popen[bytes]:
    steps = SMALL_COMMAND_STEPS if bench.cpu else COMMAND_STEPS
    words = ["supernet", "train", "laptop", "-o", str(folder), "--train-steps", str(steps), "--yes"]
    words += ["--processes", str(processes), "--train-on", bench.kind, "--compile-seconds", "0"]
    return subprocess.Popen([sys.executable, "-m", "nas.cli", *words], stdout=output, stderr=output)


def _kill_one(command: subprocess.Popen[bytes], folder: Path, until: float) -> None:
    """Kill the last of its training processes, once there is a checkpoint to go on from."""
    while not reached(folder):
        if command.poll() is not None or time.monotonic() > until:
            return
        time.sleep(0.2)
    family = [process for process in descendants(command.pid) if "spawn_main" in title(process)]
    kill(max(family))


def reached(folder: Path) -> int:
    """The step of the last checkpoint; 0 where there is none."""
    try:
        return int(verified_progress(folder)["step"])
    except NasError:
        return 0


def main() -> None:
    """The cases, then the killed process."""
    options = parser(__doc__, seconds=300)
    options.add_argument("--compile", choices=BACKENDS, default="none", help="of the bfloat16 cases")
    options.add_argument("--only", choices=("steps", "killed"), help="only the steps, or the killed process")
    options.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = options.parse_args()
    bench = Bench("supernet", given)
    if given.one:
        case, go = given.one
        say(one(Case(**json.loads(case)), bench.kind, Path(go)))
        return
    with tempfile.TemporaryDirectory(prefix="supernet-") as folder:
        if given.only != "killed":
            measure(bench, list(cases(bench, given.compile)), Path(folder))
        several = [gpus for gpus in bench.gpus if gpus > 1]
        if given.only != "steps" and several and not bench.over:
            for row in killed(bench, several[0], Path(folder, "killed")):
                bench.add(row)


if __name__ == "__main__":
    main()
