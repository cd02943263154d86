"""Blocks by our Triton kernels over the same blocks by plain PyTorch, on a GPU.

    python -m benchmarks.kernels [--blocks Mamba SLSTM] [--tokens 2048 8192] [--compiled] [--seconds 120]
    python -m benchmarks.kernels first  [--blocks DeltaNet]     # time to the first result of a shape
    python -m benchmarks.kernels decode [--blocks DeltaNet]     # a decode step over its bound by bytes

Width 1,024, bfloat16. Ratios are plain over kernel in the same process, of 4 sequences: forward, and forward
with backward; `first_s` is the time to the first result of a length, compilation of the kernels included.

`first` starts two processes with caches of their own, one after the other: each runs forward and backward of
one shape, then of another one. The first finds the caches cold, the second warm.

`decode` replays a step of 1 and of 64 sequences behind 1,024 tokens as a CUDA graph, and divides by the time
in which the device copies what a step must read and write: parameters and the state, the state again, tokens.

Each row is kept as it comes; no row is begun when `--seconds` are over.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from benchmarks.blocks import _gpu_ms, _graph_ms
from benchmarks.common import keep_row, show_plainly
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


def main(given: argparse.Namespace) -> None:
    """Run, print, and keep each row as it comes."""
    gpu, rows = torch.cuda.get_device_name(), []
    name, keys, found = WHAT[given.what]
    name += "_compiled" if given.compiled else ""
    began = time.monotonic()
    for row in found(given.blocks, given.tokens, given.compiled):
        print(row, flush=True)
        rows.append(row)
        keep_row(name, f"python -m benchmarks.kernels {given.what}", keys, row, gpu=gpu)
        if time.monotonic() - began > given.seconds:
            print(f"{given.seconds:g} seconds are over", flush=True)
            break
    for form in forms_used("cuda"):
        print(form, flush=True)
    show_plainly(f"{given.what}:", rows)


def ratios(kinds: Sequence[str], lengths: Sequence[int], compiles: bool) -> Iterator[dict[str, Any]]:
    """Plain over kernel."""
    for kind, count in itertools.product(kinds, lengths):
        mixer, x = _drawn(kind, BATCH, count)
        began = time.monotonic()
        _learning(mixer, mixer, x)()
        torch.cuda.synchronize()
        row: dict[str, Any] = {"block": kind, "T": count, "first_s": time.monotonic() - began}
        for what, call_of in (("forward", _reading), ("training", _learning)):
            ours = plain = call_of(mixer, mixer, x)
            if compiles:
                ours, plain = (call_of(compiled(lambda x: mixer(x)), mixer, x) for _ in range(2))  # noqa: B023
            with kernels_compiled() if compiles else nullcontext():
                row[f"{what}_ms"] = _gpu_ms(ours)
            row[f"{what}_plain_ms"] = _plainly(plain)
            row[f"{what}_ratio"] = row[f"{what}_plain_ms"] / row[f"{what}_ms"]
        yield row


def first_results(kinds: Sequence[str], lengths: Sequence[int], compiles: bool) -> Iterator[dict[str, Any]]:
    """Seconds to a first result with cold and with warm caches."""
    for kind in kinds:
        row: dict[str, Any] = {"block": kind, "T": lengths[0]}
        with tempfile.TemporaryDirectory() as folder:
            for cache in ("cold", "warm"):
                words = [sys.executable, "-m", "benchmarks.kernels", "worker", "--blocks", kind]
                caches = {"TRITON_CACHE_DIR": f"{folder}/triton", "NAS_CACHE": f"{folder}/nas"}
                try:
                    done = subprocess.run(
                        [*words, "--tokens", str(lengths[0])],
                        env={**os.environ, **caches},
                        capture_output=True,
                        text=True,
                        timeout=WAIT_SECONDS,
                        check=True,
                    )
                except (subprocess.SubprocessError, OSError) as error:
                    row[f"{cache}_s"] = f"{type(error).__name__}: {str(error)[-200:]}"
                    continue
                seconds = json.loads(done.stdout.splitlines()[-1])
                row |= {f"{cache}_s": seconds[0], f"{cache}_other_s": seconds[1]}
        yield row


def work(kind: str, count: int) -> None:
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


def decode_steps(kinds: Sequence[str], lengths: Sequence[int], compiles: bool) -> Iterator[dict[str, Any]]:
    """A decode step over its bound by bytes."""
    copied = torch.empty(COPIED_BYTES // 2, dtype=torch.uint8, device="cuda")
    per_second = COPIED_BYTES / (_gpu_ms(copied.clone) / 1e3)
    del copied
    for kind in kinds:
        row: dict[str, Any] = {"block": kind, "gigabytes_per_second": per_second / 1e9}
        for batch in (1, 64):
            mixer, x = _drawn(kind, batch, 1)
            state = mixer.init_state(batch, CONTEXT)
            position = torch.tensor(CONTEXT - 1, device="cuda")
            step = x[:, 0]
            with torch.no_grad():
                ms = _graph_ms(lambda: mixer.step(step, state, position))  # noqa: B023
            memory = 2 * sum(part.numel() * part.itemsize for part in state.values())
            read = sum(part.numel() * part.itemsize for part in mixer.parameters())
            bound = (read + memory + 2 * step.numel() * step.itemsize) / per_second * 1e3
            row |= {f"step_{batch}_ms": ms, f"bound_{batch}_ms": bound, f"over_{batch}": ms / bound}
        yield row


def _drawn(kind: str, batch: int, count: int) -> tuple[Any, Tensor]:
    """A block with drawn parameters, and an input."""
    dice = torch.Generator("cuda").manual_seed(0)
    with torch.device("cuda"), torch.no_grad():
        mixer = blocks[kind]().build(WIDTH)
        mixer.reset_parameters(dice)
    x = torch.randn(batch, count, WIDTH, device="cuda", dtype=torch.bfloat16, generator=dice)
    return mixer.to(torch.bfloat16), x


def _plainly(call: Callable[[], Any]) -> float:
    os.environ[VARIABLE] = PLAIN
    try:
        return _gpu_ms(call)
    finally:
        del os.environ[VARIABLE]


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


WHAT: dict[str, tuple[str, list[str], Callable[..., Iterator[dict[str, Any]]]]] = {
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
    parser.add_argument("--seconds", type=float, default=SECONDS, help="after which no row is begun")
    given = parser.parse_args()
    if given.what == "worker":
        work(given.blocks[0], given.tokens[0])
    else:
        main(given)
