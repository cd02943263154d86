"""Our primitives over the best fused kernels of other libraries for the same thing, on a GPU.

    python -m benchmarks.fused [NAME ...] [--tokens 2048 8192] [--seconds 160] [--one-by-one]

Needs CUDA; fla-core and accelerated-scan for what is compared with them. A NAME is a part of the name of a
primitive. 4 sequences, 16 heads of 64, bfloat16: forward, and forward with backward where the kernel allows
it, as CUDA graphs. Ours is our kernel where it proved itself, else the plain form (`kernels` says which);
forms of attention are compiled, as FlexAttention must be.

Processes compile side by side and are measured one after the other, alone, after all tuning was done again;
each row is kept as it comes, and a row that takes more than its time is given up. Kernels of fla that would
try dozens of configurations try at most `--configurations` of them, evenly spaced, which the row says.
`error` is the largest difference of the outputs over the largest output.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from benchmarks.common import keep_row, show_plainly
from benchmarks.on_gpu import Call, timed, with_cache
from benchmarks.workers import measured, serve
from search_spaces.ops import dispatch
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
CONFIGURATIONS = 6

Function = Callable[..., Tensor]


def main(given: argparse.Namespace) -> None:
    """Run, print, and keep each row as it comes."""
    names = _named(given.names)
    gpu, rows = torch.cuda.get_device_name(), []

    def done(name: str, found: dict[str, Any]) -> None:
        rows.append({"primitive": name, **found})
        keep_row("fused_gpu", "python -m benchmarks.fused", ["primitive"], rows[-1], gpu=gpu)

    options = ["--tokens", *map(str, given.tokens), "--configurations", str(given.configurations)]
    for group in [[name] for name in names] if given.one_by_one else [names]:
        measured("benchmarks.fused", group, options, given.seconds, done)
    for row in rows:
        over = [{"what": key, "over": value} for key, value in row.items() if key.endswith("_over")]
        if over:
            show_plainly(row["primitive"], over)


def _named(parts: Sequence[str]) -> list[str]:
    return [name for name in PAIRS if not parts or any(part in name for part in parts)]


def work(name: str, lengths: Sequence[int], configurations: int) -> None:
    """The life of one of its processes: compile everything; then tune again, alone, and measure."""
    torch.set_float32_matmul_precision("high")
    tuners = _limited_tuners(configurations)
    forms: dict[str, Call] = {}
    about: dict[str, Any] = {}

    def get_ready() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as scratch:  # choices made beside other processes are not kept
            about.update(with_cache(scratch, lambda: _prepared(name, lengths, forms)))
        about["configurations"] = max((len(tuner.configs) for tuner in tuners), default=1)
        return about

    def measure() -> dict[str, Any]:
        if importlib.util.find_spec("triton") is not None:
            importlib.import_module("search_spaces.ops.kernels.tuning").forget()
        for tuner in tuners:
            tuner.cache.clear()
        row: dict[str, Any] = {}
        for form, call in forms.items():
            call()
            (row[f"{form}_ms"],), row[f"{form}_clock"] = timed([call])
        for key in [key for key in row if "_ours" in key and key.endswith("_ms")]:
            other = key.replace("_ours", "_fused")
            if other in row:
                row[key.replace("_ours", "").removesuffix("_ms") + "_over"] = row[key] / row[other]
        return row

    serve(get_ready, measure)


def _prepared(name: str, lengths: Sequence[int], forms: dict[str, Call]) -> dict[str, Any]:
    """Compile and run all forms of a primitive once; what is to be said of it."""
    about: dict[str, Any] = dict(enable("cuda")) if "Flex" in name else {}
    for length in lengths:
        ours, theirs, inputs = PAIRS[name](length)
        if "Flex" in name:
            ours = torch.compile(ours, dynamic=False)
        forms[f"{length}_ours"], forms[f"{length}_fused"] = _reading(ours, inputs), _reading(theirs, inputs)
        with torch.no_grad():
            mine, other = ours(*inputs), theirs(*inputs)
        about[f"error_{length}"] = float((mine - other).abs().max() / other.abs().max())
        for form, function in (("ours", ours), ("fused", theirs)):
            learning = _learning(function, inputs)
            try:
                learning()
            except Exception as error:  # a kernel that refuses to learn is a finding
                about[f"{length}_{form}_learning"] = f"{type(error).__name__}: {str(error)[:120]}"
            else:
                forms[f"{length}_{form}_learning"] = learning
    why = {":".join(map(str, key)): verdict for key, verdict in dispatch._verdicts.items()}
    return {**about, "kernels": {key: verdict or "kernel" for key, verdict in why.items()}}


def _limited_tuners(most: int) -> list[Any]:
    """The tuners that other libraries will make from now on; each has so many of its configurations."""
    made: list[Any] = []
    if importlib.util.find_spec("triton") is None:
        return made
    kind = importlib.import_module("triton.runtime.autotuner").Autotuner
    usual = kind.__init__

    def limited(self: Any, fn: Any, arg_names: Any, configs: Any, *args: Any, **kwargs: Any) -> None:
        stride = -(-len(configs) // most) if configs else 1
        usual(self, fn, arg_names, configs[::stride] if configs else configs, *args, **kwargs)
        made.append(self)

    kind.__init__ = limited
    return made


def _reading(function: Function, inputs: tuple[Tensor, ...]) -> Call:
    def call() -> None:
        with torch.no_grad():
            function(*inputs)

    return call


def _learning(function: Function, inputs: tuple[Tensor, ...]) -> Call:
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--worker", metavar="NAME", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PAIRS)}; default: all")
    parser.add_argument("--tokens", nargs="+", type=int, default=LENGTHS, help="lengths of sequences")
    parser.add_argument("--seconds", type=float, default=GET_READY_SECONDS, help="to compile, all together")
    parser.add_argument("--one-by-one", action="store_true", help="compile one after the other")
    parser.add_argument(
        "--configurations", type=int, default=CONFIGURATIONS, help="that a tuner of fla tries"
    )
    given = parser.parse_args()
    if unknown := [part for part in given.names if not _named([part])]:
        parser.error(f"{unknown[0]!r} is in none of {', '.join(PAIRS)}")
    if given.worker:
        work(given.worker, given.tokens, given.configurations)
    else:
        main(given)
