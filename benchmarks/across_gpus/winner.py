"""One network of 300 million parameters and more by every parallel method: speed, bytes, equality of losses.

    python -m benchmarks.across_gpus.winner --gpus 2
    python -m benchmarks.across_gpus.winner --gpus 2 4 8 --seconds 600
    python -m benchmarks.across_gpus.winner --cpu

    python -m benchmarks.across_gpus.winner --gpus 2 --compile none

A hybrid of Mamba-2, gated delta nets, attention and experts learns bytes for 20 steps in bfloat16: on one GPU
first, then by each method on each number of GPUs, always from the same weights, from the same batches in the
same pieces. Every method has processes of its own, which import while the method before is measured; one
that fails or hangs costs only itself. `reversed pieces` is one GPU that adds up its pieces in the reverse
order: how far rounding alone takes the losses.

MFU counts the products on paper (`evaluators.training.pace`). `states` are bytes of weights, gradients and
optimizer states of the process that holds most, beside what the method's law says; `gathered` is what the
law adds for weights of others; the rest of the `peak` are activations. What suits the device is compiled,
unless `--compile` says otherwise: `compiling_s` is what the slowest process took for that, and part of
`first_step_s`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.across_gpus.bench import (
    Bench,
    Child,
    difference,
    parser,
    peak_bytes,
    ready,
    say,
    wait_for,
)
from evaluators.corpus import load_corpus
from evaluators.tasks.language import LanguageModelling
from evaluators.training.distributed import OnStep, train_distributed
from evaluators.training.execution import BACKENDS, Execution
from evaluators.training.parallel import memory
from evaluators.training.parallel import run as runs
from evaluators.training.parallel.course import Course
from evaluators.training.parallel.grid import make_grid
from evaluators.training.parallel.memory import Line
from evaluators.training.parallel.parallel import Parallel
from evaluators.training.process_group import ProcessGroup
from evaluators.training.recipe import Recipe
from foundation.errors import SettingError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.devices import peak_of
from search_spaces.language.serialization import to_json
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.scenario import Scenario

MODULE = "benchmarks.across_gpus.winner"
ONE, REVERSED = "", "reversed pieces"
STEPS, WARM = 20, 4
"""Steps of a method, of which the first ones are not timed."""


@dataclass(frozen=True)
class Size:
    """Of the network and of a step."""

    width: int
    repeats: int
    head: int
    length: int
    batch: int
    pieces: int


REAL, SMALL = Size(1024, 4, 64, 2048, 32, 4), Size(32, 1, 8, 32, 8, 4)


def hybrid(size: Size) -> Decoder:
    """Four layers, repeated: two Mamba-2, a gated delta net and attention; every other one has experts."""
    heads = size.width // size.head
    dense, experts = SwiGLU(expansion=3), MoE(num_experts=8, top_k=2, expansion=1)
    mamba = Mamba2(num_heads=2 * heads, head_dim=size.head, state_dim=size.head)
    delta = GatedDeltaNet(num_heads=heads, head_dim=size.head, state_dim=size.head)
    attention = Attention(num_heads=heads, num_kv_heads=heads // 2, head_dim=size.head)
    layers = (
        Layer(sequence_mixer=mamba, channel_mixer=dense),
        Layer(sequence_mixer=delta, channel_mixer=experts),
        Layer(sequence_mixer=attention, channel_mixer=dense),
        Layer(sequence_mixer=mamba, channel_mixer=experts),
    )
    return Decoder(vocab=256, d_model=size.width, layers=layers * size.repeats)


def methods_of(gpus: int) -> Iterator[str]:
    """The methods on so many GPUs; what is left of them beside a pair are replicas."""
    if gpus == 1:
        return
    pairs = gpus // 2
    replicas = f",dp={pairs}" if pairs > 1 else ""
    yield f"fsdp={gpus}"
    yield f"dp={gpus}"
    yield f"fsdp={pairs},tp=2" if pairs > 1 else "tp=2"
    yield f"pp=2{replicas}"
    yield f"pp=2,pp.schedule=gpipe{replicas}"
    yield f"dp={gpus},dp.zero=1"


@dataclass(frozen=True)
class ReversedPieces(LanguageModelling):
    """The same batches, whose pieces are read in the reverse order."""

    pieces: int = 1

    def train_batch_on(
        self, device: str | torch.device, step: int, seed: int, batch: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and targets of a step, on a device."""
        whole = super().train_batch_on(device, step, seed, batch)
        tokens, targets = (torch.cat(part.chunk(self.pieces)[::-1]) for part in whole)
        return tokens, targets


def course_of(size: Size, folder: Path, method: str, how: Execution) -> Course:
    """The training by a method: as many pieces of the batch as by any other."""
    task = LanguageModelling(load_corpus().folder, length=size.length)
    if method == REVERSED:
        task = ReversedPieces(task.corpus_folder, length=size.length, pieces=size.pieces)
    parallel = Parallel.parse("" if method == REVERSED else method)
    if size.pieces % parallel.readers:
        raise SettingError(f"{method}: {size.pieces} pieces cannot be shared by {parallel.readers} readers")
    return Course(
        spec=to_json(hybrid(size)),
        task=task,
        steps=1000,
        folder=str(folder),
        origin="seed 0",
        batch=size.batch,
        recipe=Recipe(precision="bfloat16"),
        parallel=parallel,
        accumulate=size.pieces // parallel.readers,
        compile=how.compile,
        compile_seconds=how.compile_seconds,
        device=how.device,
    )


def one(size: Size, folder: Path, name: str, method: str, how: Execution) -> dict[str, Any]:
    """One method in processes of its own, beginning when it is told."""
    course, device = course_of(size, folder, method, how), how.device
    count = course.parallel.count
    out = folder / name
    prepare = partial(wait_for, str(out / "go"))
    train_distributed(
        partial(_train, course, str(out)), count, device=device, prepare=prepare, share_cpus=True
    )
    ranks = [json.loads((out / f"{rank}.json").read_text()) for rank in range(count)]
    nothing: dict[str, Line] = defaultdict(lambda: Line(0, 0))
    law = [memory.held_by(course, nothing, rank) for rank in range(count)]
    states = [sum(rank["held"].values()) for rank in ranks]
    most = states.index(max(states))
    tokens, step_s = course.batch * course.task.length, max(rank["step_s"] for rank in ranks)
    scenario = Scenario(batch=course.batch, prompt=course.task.length)
    flops, peak = 3.0 * course.decoder().cost(scenario).prefill_flops, peak_of(device, "bfloat16")
    peaks = [rank["peak"] for rank in ranks]
    return {
        "compile": course.backend,
        "step_ms": 1e3 * step_s,
        "tokens_per_s": tokens / step_s,
        "mfu": None if peak is None else flops / (step_s * count * peak),
        "states": states[most],
        "states by law": law[most].weights + law[most].gradients + law[most].optimizer,
        "gathered by law": law[most].gathered,
        "peak": None if None in peaks else max(peaks),
        "beside states": None if None in peaks else max(p - s for p, s in zip(peaks, states, strict=True)),
        "load_s": ranks[0]["load_s"],
        "first_step_s": ranks[0]["first_step_s"],
        "compiling_s": max(rank["compiling_s"] for rank in ranks),
        "losses": ranks[0]["losses"],
    }


def _train(course: Course, out: str, on_step: OnStep | None, *, process_group: ProcessGroup) -> None:
    """As one of the processes: the steps, and a file of what they took here."""
    began = time.perf_counter()
    grid = make_grid(course.parallel.sizes, device=course.device)
    training = runs.opened(course, grid, runs.FIRST)
    ready(course.device)
    load_s, losses, times = time.perf_counter() - began, list[float](), list[float]()
    for step in range(STEPS):
        if step == WARM and course.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        losses.append(training.learn()[0])
        ready(course.device)
        times.append(time.perf_counter() - began)
        if process_group.rank == 0:
            print(f"step {step}: {losses[-1]:.4f}, {times[-1]:.2f} s", flush=True)
    found = {
        "load_s": load_s,
        "first_step_s": times[0],
        "compiling_s": training.regions.spent,
        "step_s": statistics.median(times[WARM:]),
        "losses": losses,
        "held": training.held(),
        "peak": peak_bytes(course.device),
    }
    Path(out, f"{process_group.rank}.json").write_text(json.dumps(found))


def main() -> None:
    """One GPU, then every method on every number of GPUs."""
    options = parser(__doc__, seconds=420)
    options.add_argument("--only", action="append", help="only this method (and one GPU)")
    options.add_argument("--compile", choices=BACKENDS, help="what suits the device unless it is said")
    options.add_argument(
        "--compile-seconds", type=float, default=60.0, help="of compiling in each process (%(default)s)"
    )
    options.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = options.parse_args()
    bench, size = Bench("winner", given), SMALL if given.cpu else REAL
    how = Execution.for_device(bench.kind, compile_seconds=given.compile_seconds)
    if given.compile is not None:
        how = replace(how, compile=given.compile)
    if given.one:
        folder, name, method = given.one
        say(one(size, Path(folder), name, method, how))
        return
    methods = [method for gpus in bench.gpus for method in methods_of(gpus)]
    chosen = [ONE, *(method for method in methods if not given.only or method in given.only), REVERSED]
    with tempfile.TemporaryDirectory(prefix="winner-") as folder:
        measure(bench, chosen, size, Path(folder), how=how)


def measure(bench: Bench, chosen: Sequence[str], size: Size, folder: Path, *, how: Execution) -> None:
    """Every method in turn; the next one's processes start beside it."""
    child = _started(bench, folder, 0, chosen[0], how=how)
    network = build(hybrid(size), seed=0)
    runs.begin(course_of(size, folder, ONE, how), network)
    about = {"parameters": sum(weight.numel() for weight in network.parameters()), "size": asdict(size)}
    expected: list[float] = []
    for number, method in enumerate(chosen):
        (folder / str(number) / "go").touch()
        more = number + 1 < len(chosen) and bench.left > bench.limit / 4
        following = _started(bench, folder, number + 1, chosen[number + 1], how=how) if more else None
        row = child.result(min(bench.limit, bench.left))
        if "losses" in row:
            expected = expected or row["losses"]
            row["difference"] = difference(row["losses"], expected)
        count = Parallel.parse("" if method == REVERSED else method).count
        bench.add({"method": method or "one GPU", "gpus": count, **row}, **about)
        if following is None:
            return
        child = following


def _started(bench: Bench, folder: Path, number: int, method: str, *, how: Execution) -> Child:
    """The processes of a method, which import and then wait."""
    (folder / str(number)).mkdir()
    words = ["--one", str(folder), str(number), method, *(["--cpu"] if bench.cpu else [])]
    words += ["--compile", how.compile, "--compile-seconds", str(how.compile_seconds)]
    return Child(MODULE, words, folder / f"{number}.txt")


if __name__ == "__main__":
    main()
