"""Our plain primitives, compiled, over the fused kernels of other libraries for the same thing, on a GPU.

    python -m benchmarks.fused [NAME ...]              # needs CUDA, fla-core, accelerated-scan

4 sequences, 16 heads of 64, bfloat16, 2,048 and 8,192 tokens: forward, and forward with backward where the
kernel allows it. `error` is the largest difference of the outputs over the largest output.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from benchmarks.blocks import _gpu_ms
from benchmarks.common import keep
from benchmarks.workers import measured, serve
from search_spaces.ops.attention import attend
from search_spaces.ops.block_sparse import BlockPattern, attend_in_blocks, sees
from search_spaces.ops.decay_attention import decay_attention
from search_spaces.ops.delta_rule import delta_rule
from search_spaces.ops.fused import enable
from search_spaces.ops.gated_attention import gated_attention
from search_spaces.ops.scan import scan

BATCH, HEADS, WIDTH = 4, 16, 64
LENGTHS = (2048, 8192)
WINDOW = 512
PATTERN = BlockPattern(128, 3, 1, 2)
GET_READY_SECONDS = 160.0

Function = Callable[..., Tensor]


def main(names: Sequence[str] = ()) -> None:
    """Run, print and keep; one pair after the other, so that no library's autotuning slows another's."""
    found: dict[str, Any] = {}
    for name in names or PAIRS:
        found |= measured("benchmarks.fused", [name], [], GET_READY_SECONDS)
    rows = [{"primitive": name, **row} for name, row in found.items()]
    keep("fused_gpu", "python -m benchmarks.fused", rows, gpu=torch.cuda.get_device_name())


def work(name: str) -> None:
    """The life of one of its processes."""
    torch.set_float32_matmul_precision("high")
    forms: dict[str, Callable[[], Any]] = {}
    about: dict[str, Any] = {}

    def get_ready() -> dict[str, Any]:
        about.update(enable("cuda"))
        for length in LENGTHS:
            ours, theirs, inputs = PAIRS[name](length)
            compiled = torch.compile(ours, dynamic=False)
            with torch.no_grad():
                mine, other = compiled(*inputs), theirs(*inputs)
                about[f"error_{length}"] = float((mine - other).abs().max() / other.abs().max())
            forms[f"{length}_ours"] = _reading(compiled, inputs)
            forms[f"{length}_fused"] = _reading(theirs, inputs)
            if length == LENGTHS[0]:
                for form, function in (("ours", compiled), ("fused", theirs)):
                    learning = _learning(function, inputs)
                    try:
                        learning()
                    except Exception as error:  # a kernel that refuses to learn is a finding
                        about[f"{length}_{form}_learning"] = f"{type(error).__name__}: {str(error)[:120]}"
                    else:
                        forms[f"{length}_{form}_learning"] = learning
        return about

    def measure() -> dict[str, Any]:
        times = {form: _gpu_ms(call) for form, call in forms.items()}
        row: dict[str, Any] = {f"{form}_ms": ms for form, ms in times.items()}
        for what in map(str, LENGTHS):
            if f"{what}_fused" in times:
                row[f"{what}_over"] = times[f"{what}_ours"] / times[f"{what}_fused"]
        learning = f"{LENGTHS[0]}_{{}}_learning"
        if learning.format("fused") in times and learning.format("ours") in times:
            row[f"{LENGTHS[0]}_learning_over"] = (
                times[learning.format("ours")] / times[learning.format("fused")]
            )
        return row

    serve(get_ready, measure)


def _reading(function: Function, inputs: tuple[Tensor, ...]) -> Callable[[], Any]:
    def call() -> None:
        with torch.no_grad():
            function(*inputs)

    return call


def _learning(function: Function, inputs: tuple[Tensor, ...]) -> Callable[[], Any]:
    leaves = tuple(part.detach().requires_grad_(part.is_floating_point()) for part in inputs)

    def call() -> None:
        y = function(*leaves)
        torch.autograd.grad(y, leaves, torch.ones_like(y), allow_unused=True)

    return call


def _qkv(length: int) -> tuple[Tensor, Tensor, Tensor]:
    """[B, T, H, K] each."""
    dice = torch.Generator("cuda").manual_seed(0)
    shape = (BATCH, length, HEADS, WIDTH)
    q, k, v = (
        torch.randn(shape, device="cuda", dtype=torch.bfloat16, generator=dice) * WIDTH**-0.5
        for _ in range(3)
    )
    return q, k, v


def _gate(length: int, *more: int) -> Tensor:
    """Logarithms of decays near one, in float32."""
    dice = torch.Generator("cuda").manual_seed(1)
    return -torch.rand(BATCH, length, HEADS, *more, device="cuda", generator=dice) / 16


def _fla(path: str) -> Callable[..., Any]:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(f"fla.ops.{module}"), name)


def _decay(length: int) -> tuple[Function, Function, tuple[Tensor, ...]]:
    kernel = _fla("simple_gla.chunk_simple_gla")
    return (
        lambda q, k, v, g: decay_attention(q, k, v, g)[0],
        lambda q, k, v, g: kernel(q, k, v, g, scale=1.0)[0],
        (*_qkv(length), _gate(length)),
    )


def _constant_decay(length: int) -> tuple[Function, Function, tuple[Tensor, ...]]:
    kernel, (q, k, v) = _fla("retention.chunk_retention"), _qkv(length)
    slopes = torch.log1p(-(2.0 ** -(5 + torch.arange(HEADS, device="cuda", dtype=torch.float32))))
    g = slopes.expand(BATCH, length, HEADS).contiguous()
    return (
        lambda q, k, v: decay_attention(q, k, v, g)[0],
        lambda q, k, v: kernel(q, k, v, scale=1.0)[0],
        (q, k, v),
    )


def _gated(length: int) -> tuple[Function, Function, tuple[Tensor, ...]]:
    kernel = _fla("gla.chunk_gla")
    return (
        lambda q, k, v, g: gated_attention(q, k, v, g)[0],
        lambda q, k, v, g: kernel(q, k, v, g, scale=1.0)[0],
        (*_qkv(length), _gate(length, WIDTH)),
    )


def _delta(length: int) -> tuple[Function, Function, tuple[Tensor, ...]]:
    kernel, (q, k, v) = _fla("delta_rule.chunk_delta_rule"), _qkv(length)
    k = torch.nn.functional.normalize(k.float(), dim=-1).to(k.dtype)
    b = torch.rand(BATCH, length, HEADS, device="cuda").to(k.dtype)
    return (
        lambda q, k, v, b: delta_rule(q, k, v, b)[0],
        lambda q, k, v, b: kernel(q, k, v, b, scale=1.0)[0],
        (q, k, v, b),
    )


def _scan(length: int) -> tuple[Function, Function, tuple[Tensor, ...]]:
    kernel = importlib.import_module("accelerated_scan.scalar").scan
    dice = torch.Generator("cuda").manual_seed(2)
    a, b = (torch.rand(BATCH, length, 2048, device="cuda", generator=dice) for _ in range(2))
    return (
        scan,
        lambda a, b: kernel(a.mT.contiguous(), b.mT.contiguous()).mT,
        (0.9 + a / 10, b),
    )


def _window(length: int) -> tuple[Function, Function, tuple[Tensor, ...]]:
    def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (query - key < WINDOW)

    mask = create_block_mask(seen, None, None, length, length, device="cuda")
    flex = torch.compile(flex_attention, dynamic=False)
    return (
        lambda q, k, v: attend(q, k, v, WINDOW),
        lambda q, k, v: flex(q, k, v, block_mask=mask),
        tuple(part.transpose(1, 2).contiguous() for part in _qkv(length)),
    )


def _blocks(length: int) -> tuple[Function, Function, tuple[Tensor, ...]]:
    token = torch.arange(length, device="cuda")
    table = sees(token[:, None], token, PATTERN)

    def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return table[query, key]

    mask = create_block_mask(seen, None, None, length, length, device="cuda")
    flex = torch.compile(flex_attention, dynamic=False)
    return (
        lambda q, k, v: attend_in_blocks(q, k, v, PATTERN),
        lambda q, k, v: flex(q, k, v, block_mask=mask),
        tuple(part.transpose(1, 2).contiguous() for part in _qkv(length)),
    )


PAIRS: dict[str, Callable[[int], tuple[Function, Function, tuple[Tensor, ...]]]] = {
    "windowed attention over FlexAttention": _window,
    "block-sparse attention over FlexAttention": _blocks,
    "scalar decay over fla simple_gla": _decay,
    "constant decay over fla retention": _constant_decay,
    "channel decay over fla gla": _gated,
    "delta rule over fla delta_rule": _delta,
    "diagonal scan over accelerated_scan": _scan,
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", metavar="NAME", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PAIRS)}; default: all")
    given = parser.parse_args()
    if given.worker:
        work(given.worker)
    else:
        main(given.names)
