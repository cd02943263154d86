"""Blocks by our Triton kernels over the same blocks by plain PyTorch, on a GPU.

    python -m benchmarks.kernels [--blocks Mamba SLSTM] [--tokens 2048 8192]

Width 1,024, 4 sequences, bfloat16, eager; forward, and forward with backward. Ratios are plain over kernel in
the same process. `first_s` is the time to the first result of a shape, compilation of the kernels included.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.blocks import _gpu_ms
from benchmarks.common import keep_row, show_plainly
from search_spaces.blocks.base import blocks
from search_spaces.ops.dispatch import VARIABLE, forms

WIDTH, BATCH = 1024, 4
KINDS = (
    "GatedLinearAttention",
    "RWKV6",
    "DeltaNet",
    "GatedDeltaNet",
    "LinearAttention",
    "Mamba",
    "Mamba2",
    "MLSTM",
    "RGLRU",
    "Retention",
    "SLSTM",
)
LENGTHS = (2048, 8192)


def main() -> None:
    """Run, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", nargs="+", default=KINDS, help="kinds of blocks")
    parser.add_argument("--tokens", nargs="+", type=int, default=LENGTHS, help="lengths of sequences")
    given = parser.parse_args()
    for form in forms("cuda"):
        print(f"{form.primitive}: {'kernel' if form.kernel else f'plain, {form.reason}'}", flush=True)
    gpu, rows = torch.cuda.get_device_name(), []
    for kind, count in itertools.product(given.blocks, given.tokens):
        rows.append(_row(kind, count))
        keep_row("kernels_gpu", "python -m benchmarks.kernels", ["block", "T"], rows[-1], gpu=gpu)
    show_plainly("plain PyTorch over our kernels", rows)


def _row(kind: str, count: int) -> dict[str, Any]:
    dice = torch.Generator("cuda").manual_seed(0)
    with torch.device("cuda"), torch.no_grad():
        mixer = blocks[kind]().build(WIDTH)
        mixer.reset_parameters(dice)
    mixer = mixer.to(torch.bfloat16)
    x = torch.randn(BATCH, count, WIDTH, device="cuda", dtype=torch.bfloat16, generator=dice)
    row: dict[str, Any] = {"block": kind, "T": count}
    began = time.monotonic()
    _learning(mixer, x)()
    torch.cuda.synchronize()
    row["first_s"] = time.monotonic() - began
    for what, call in (("forward", _reading(mixer, x)), ("training", _learning(mixer, x))):
        row[f"{what}_ms"] = _gpu_ms(call)
        row[f"{what}_plain_ms"] = _plainly(call)
        row[f"{what}_ratio"] = row[f"{what}_plain_ms"] / row[f"{what}_ms"]
    print(row, flush=True)
    return row


def _plainly(call: Callable[[], Any]) -> float:
    os.environ[VARIABLE] = "plain"
    try:
        return _gpu_ms(call)
    finally:
        del os.environ[VARIABLE]


def _reading(mixer: Any, x: Tensor) -> Callable[[], Any]:
    def call() -> None:
        with torch.no_grad():
            mixer(x)

    return call


def _learning(mixer: Any, x: Tensor) -> Callable[[], Any]:
    leaf = x.detach().requires_grad_()

    def call() -> None:
        y = mixer(leaf).y
        torch.autograd.grad(y, [leaf, *mixer.parameters()], torch.ones_like(y))

    return call


if __name__ == "__main__":
    main()
