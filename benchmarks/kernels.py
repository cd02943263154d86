"""Blocks by our Triton kernels over the same blocks by plain PyTorch, on a GPU.

    python -m benchmarks.kernels [--blocks Mamba SLSTM] [--tokens 2048 8192] [--compiled] [--seconds 120]
    python -m benchmarks.kernels first  [--blocks DeltaNet]     # time to the first result of a shape
    python -m benchmarks.kernels decode [--compiled]    # a decode step over its bound by bytes

Width 1,024, 16 heads of 64, bfloat16. Ratios are plain over kernel in the same process, of 4 sequences:
forward, and forward with backward. The processes of all blocks compile side by side, for at most `--seconds`,
and then measure one after the other.

`first` starts two processes with caches of their own, one after the other: each runs forward and backward of
one shape, then of another one. The first finds the caches cold, the second warm.

`decode` replays a step of 1 and of 64 sequences behind 1,024 tokens as a CUDA graph, and divides by the time
in which the device copies what a step must read and write: parameters and the state, the state again, tokens.

Each row is kept as it comes; no block is begun when `--seconds` are over.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor

from benchmarks.common import keep_row, show_plainly
from benchmarks.on_gpu import Call, eager_ms, graph_ms, timed, wide, with_cache
from benchmarks.workers import measured, serve
from hw_profiles.runtimes.compile import compiled
from search_spaces.blocks.base import blocks
from search_spaces.ops.dispatch import PLAIN, VARIABLE, forms_used, kernels_compiled

WIDTH, BATCH = 1024, 4
KINDS = (
    "GatedLinearAttention",
    "RWKV6",
    "MLSTM",
    "MoE",
    "DeltaNet",
    "GatedDeltaNet",
    "LinearAttention",
    "Mamba",
    "Mamba2",
    "RGLRU",
    "Retention",
    "SLSTM",
)
LENGTHS = (2048, 8192)
OTHER = (3, 1500)
"""Sequences and tokens of another shape."""

CONTEXT = 1024
SECONDS = 3600.0
WAIT_SECONDS = 120.0
COPIED_BYTES = 2**31


Form: TypeAlias = tuple[Callable[[], AbstractContextManager[Any]], Callable[[], Any]]
"""What holds meanwhile, and what to call."""

Done: TypeAlias = Callable[[dict[str, Any]], None]
"""Told each row as it comes."""


def main(given: argparse.Namespace) -> None:
    """Run, print, and keep each row as it comes."""
    gpu, rows = torch.cuda.get_device_name(), []
    name, keys, found = WHAT[given.what]
    name += "_compiled" if given.compiled else ""

    def done(row: dict[str, Any]) -> None:
        rows.append(row)
        keep_row(name, f"python -m benchmarks.kernels {given.what}", keys, row, gpu=gpu)

    found(given, done)
    for form in forms_used("cuda"):
        print(form, flush=True)
    show_plainly(f"{given.what}:", rows)


def ratios(given: argparse.Namespace, done: Done) -> None:
    """Plain over kernel."""
    options = ["--tokens", *map(str, given.tokens), *(["--compiled"] if given.compiled else [])]

    def told(kind: str, found: dict[str, Any]) -> None:
        if "failed" in found:
            done({"block": kind, "T": given.tokens[0], **found})
        for row in found.get("rows", ()):
            done({"block": kind, **row})

    measured("benchmarks.kernels", given.blocks, options, given.seconds, told)


def work(kind: str, lengths: Sequence[int], compiles: bool) -> None:
    """One of its processes: compile all forms of a block; then tune again, alone, and measure."""
    forms: dict[int, dict[str, Form]] = {}

    def get_ready() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as scratch:  # choices made beside other processes are not kept
            with_cache(scratch, lambda: forms.update({n: _prepared(kind, n, compiles) for n in lengths}))
        return {}

    def measure() -> dict[str, Any]:
        importlib.import_module("search_spaces.ops.kernels.tuning").forget()
        return {"rows": [{"T": count, **_timed(of_length)} for count, of_length in forms.items()]}

    serve(get_ready, measure)


def _prepared(kind: str, count: int, compiles: bool) -> dict[str, Form]:
    """Forward, and forward with backward, by our kernels and plainly; each was called once."""
    mixer, x = _drawn(kind, BATCH, count)
    forms: dict[str, Form] = {}
    for what, call_of in (("forward", _reading), ("training", _learning)):
        call_of(mixer, mixer, x)()  # kernels prove themselves outside of the compiler
        for name in ("", "_plain"):
            form = compiled(lambda x: mixer(x)) if compiles else mixer
            context = _plainly if name else kernels_compiled if compiles else nullcontext
            forms[what + name] = context, call_of(form, mixer, x)
            with context():
                forms[what + name][1]()
    return forms


def _timed(forms: dict[str, Form]) -> dict[str, Any]:
    """Milliseconds of each, and ratios; both of a ratio by the same clock."""
    row: dict[str, Any] = {}
    for what in ("forward", "training"):
        names = (what, f"{what}_plain")
        times, row[f"{what}_clock"] = timed([_within(*forms[name]) for name in names])
        row |= {f"{name}_ms": ms for name, ms in zip(names, times, strict=True)}
        row[f"{what}_ratio"] = row[f"{what}_plain_ms"] / row[f"{what}_ms"]
    return row


def _within(context: Callable[[], AbstractContextManager[Any]], call: Call) -> Call:
    def run() -> None:
        with context():
            call()

    return run


@contextmanager
def _plainly() -> Iterator[None]:
    """Meanwhile no kernel of ours is used."""
    os.environ[VARIABLE] = PLAIN
    try:
        yield
    finally:
        del os.environ[VARIABLE]


def first_results(given: argparse.Namespace, done: Done) -> None:
    """Seconds to a first result with cold and with warm caches; no block is begun when time is over."""
    began = time.monotonic()
    for kind in given.blocks:
        if time.monotonic() - began > given.seconds:
            print(f"{given.seconds:g} seconds are over", flush=True)
            break
        done(_first_results(kind, given.tokens[0]))


def _first_results(kind: str, count: int) -> dict[str, Any]:
    row: dict[str, Any] = {"block": kind, "T": count}
    with tempfile.TemporaryDirectory() as folder:
        for cache in ("cold", "warm"):
            words = [sys.executable, "-m", "benchmarks.kernels", "worker", "--blocks", kind]
            caches = {"TRITON_CACHE_DIR": f"{folder}/triton", "NAS_CACHE": f"{folder}/nas"}
            try:
                told = subprocess.run(
                    [*words, "--tokens", str(count)],
                    env={**os.environ, **caches},
                    capture_output=True,
                    text=True,
                    timeout=WAIT_SECONDS,
                    check=True,
                )
            except (subprocess.SubprocessError, OSError) as error:
                row[f"{cache}_s"] = f"{type(error).__name__}: {str(error)[-200:]}"
                continue
            seconds = json.loads(told.stdout.splitlines()[-1])
            row |= {f"{cache}_s": seconds[0], f"{cache}_other_s": seconds[1]}
    return row


def first(kind: str, count: int) -> None:
    """One of its processes: seconds to the first result of a shape, and then of another."""
    torch.zeros(1, device="cuda")
    seconds = []
    for batch, tokens in ((BATCH, count), OTHER):
        mixer, x = _drawn(kind, batch, tokens)
        torch.cuda.synchronize()
        began = time.monotonic()
        _learning(mixer, mixer, x)()
        torch.cuda.synchronize()
        seconds.append(time.monotonic() - began)
    print(json.dumps(seconds))


def decode_steps(given: argparse.Namespace, done: Done) -> None:
    """A decode step over its bound by bytes."""
    copied = torch.empty(COPIED_BYTES // 2, dtype=torch.uint8, device="cuda")
    per_second = COPIED_BYTES / (eager_ms(copied.clone) / 1e3)
    del copied
    for kind in given.blocks:
        row: dict[str, Any] = {"block": kind, "gigabytes_per_second": per_second / 1e9}
        for batch in (1, 64):
            mixer, x = _drawn(kind, batch, 1)
            state = mixer.init_state(batch, CONTEXT)
            position = torch.tensor(CONTEXT - 1, device="cuda")
            step = x[:, 0]
            run = mixer.step
            if given.compiled:
                run = compiled(lambda x, state, at: mixer.step(x, state, at))  # noqa: B023
            with torch.no_grad():
                ms = graph_ms(lambda: run(step, state, position))  # noqa: B023
            memory = 2 * sum(part.numel() * part.itemsize for part in state.values())
            read = sum(part.numel() * part.itemsize for part in mixer.parameters())
            bound = (read + memory + 2 * step.numel() * step.itemsize) / per_second * 1e3
            row |= {f"step_{batch}_ms": ms, f"bound_{batch}_ms": bound, f"over_{batch}": ms / bound}
        done(row)


def _drawn(kind: str, batch: int, count: int) -> tuple[Any, Tensor]:
    """A block with drawn parameters, and an input."""
    dice = torch.Generator("cuda").manual_seed(0)
    with torch.device("cuda"), torch.no_grad():
        mixer = wide(kind).build(WIDTH)
        mixer.reset_parameters(dice)
    x = torch.randn(batch, count, WIDTH, device="cuda", dtype=torch.bfloat16, generator=dice)
    return mixer.to(torch.bfloat16), x


def _reading(form: Any, mixer: Any, x: Tensor) -> Callable[[], Any]:
    def call() -> None:
        with torch.no_grad():
            form(x)

    return call


def _learning(form: Any, mixer: Any, x: Tensor) -> Callable[[], Any]:
    leaf = x.detach().requires_grad_()

    def call() -> None:
        y = form(leaf).y
        leaves = [leaf, *mixer.parameters()]
        torch.autograd.grad(y, leaves, torch.ones_like(y), allow_unused=True)

    return call


WHAT: dict[str, tuple[str, list[str], Callable[[argparse.Namespace, Done], None]]] = {
    "ratios": ("kernels_gpu", ["block", "T"], ratios),
    "first": ("kernels_first_gpu", ["block", "T"], first_results),
    "decode": ("kernels_decode_gpu", ["block"], decode_steps),
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "what", nargs="?", default="ratios", choices=[*WHAT, "worker"], help="what to measure"
    )
    parser.add_argument("--blocks", nargs="+", default=KINDS, choices=sorted(blocks), help="kinds of blocks")
    parser.add_argument("--tokens", nargs="+", type=int, default=LENGTHS, help="lengths of sequences")
    parser.add_argument("--compiled", action="store_true", help="both forms by torch.compile")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="to compile; after which no row is begun"
    )
    parser.add_argument("--worker", metavar="BLOCK", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker, given.tokens, given.compiled)
    elif given.what == "worker":
        first(given.blocks[0], given.tokens[0])
    else:
        main(given)
