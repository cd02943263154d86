"""How fast the blocks are: against reference implementations, against fused kernels, and as contexts grow.

On a CPU (the default): forward and backward of each block at width 256 over those of its reference in
transformers (their pure PyTorch path), interleaved on one pinned thread, by its CPU time; and, for
recurrences, over the sequential form. On a GPU (`--device cuda`): the compiled form over the best fused
kernel for the same block, the growth of prefill with the prompt, decode with the context, and the time to
compile.
Figures are medians of ratios of neighbours, with their interquartile range.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.common import keep, keep_row, show
from benchmarks.on_gpu import eager_ms, graph_ms, wide
from benchmarks.workers import measured, serve
from search_spaces.blocks.base import Block, Mixer, blocks
from search_spaces.ops.fused import enable
from search_spaces.references import reference_of

WIDTH, BATCH = 256, 2
LENGTHS = (512, 2048)
PAIRS, SECONDS = 11, 8.0
PATIENCE = 30.0
"""Seconds that one pass of a reference may take; a slower one is not waited for."""

LONG = (2048, 8192)
GET_READY_SECONDS = 240.0
GROWTH = (1024, 2048, 4096, 8192, 16384)
SEQUENTIAL = (
    "Mamba",
    "Mamba2",
    "RGLRU",
    "RWKV6",
    "MLSTM",
    "Retention",
    "GatedLinearAttention",
    "DeltaNet",
    "SLSTM",
)
"""Recurrences whose step, token by token, is the sequential form."""


def main(device: str = "cpu", kinds: Sequence[str] = (), seconds: float = GET_READY_SECONDS) -> None:
    """Run, print and keep."""
    if device.startswith("cuda"):
        on_gpu(device, kinds, seconds)
    else:
        on_cpu(device, kinds)


def on_cpu(device: str, kinds: Sequence[str] = ()) -> None:
    """Ratios to the references and to the sequential form."""
    torch.set_num_threads(1)
    kinds = kinds or list(blocks)
    rows = [row for length in LENGTHS for kind in kinds for row in _against_reference(kind, length)]
    show("forward + backward, time over the reference's", rows)
    sequential = [_against_sequential(kind) for kind in SEQUENTIAL if kind in kinds]
    show("forward + backward at T 512, time over that of the sequential form", sequential)
    keep("blocks_cpu", "python -m benchmarks blocks", rows, sequential=sequential)


def _against_reference(kind: str, length: int) -> list[dict[str, Any]]:
    spec = blocks[kind]()
    known = reference_of(blocks[kind])
    if known is None or known.needs is None or not known.installed:
        return []
    mixer = _built(spec, "cpu")
    # both sides compute the gradients of their weights, whether or not a reference makes parameters of them
    weights = {name: p.detach().clone().requires_grad_() for name, p in mixer.named_parameters()}
    reference = known.build(spec, weights, WIDTH)
    row = {"block": kind, "T": length, "against": known.source}
    if _expected(reference, length) > PATIENCE:
        return [{**row, "ratio": math.nan, "iqr": math.nan, "pairs": 0}]
    x = torch.randn(BATCH, length, WIDTH, generator=_dice())
    ratio, spread, pairs = _ratio(lambda: _learn(lambda v: mixer(v).y, x), lambda: _learn(reference, x))
    return [{**row, "ratio": ratio, "iqr": spread, "pairs": pairs}]


def _expected(reference: Callable[[Tensor], Tensor], length: int) -> float:
    """Seconds of one pass, by how it grows from 128 to 256 tokens."""
    times = {}
    for count in (64, 128, 256):
        x = torch.randn(BATCH, count, WIDTH, generator=_dice())
        times[count] = _cpu_time(lambda: _learn(reference, x))  # noqa: B023 (called at once)
    growth = max(0.0, math.log2(times[256] / times[128]))
    return float(times[256] * (length / 256) ** growth)


def _against_sequential(kind: str) -> dict[str, Any]:
    mixer = _built(blocks[kind](), "cpu")
    x = torch.randn(BATCH, 512, WIDTH, generator=_dice())

    def sequential(v: Tensor) -> Tensor:
        state, outputs = mixer.init_state(len(v), v.shape[1]), []
        for t, token in enumerate(v.unbind(1)):
            y, state = mixer.step(token, state, t)
            outputs.append(y)
        return torch.stack(outputs, dim=1)

    ratio, spread, pairs = _ratio(
        lambda: _learn(lambda v: mixer(v).y, x), lambda: _learn(sequential, x), most=5
    )
    return {"block": kind, "T": 512, "ratio": ratio, "iqr": spread, "pairs": pairs}


def _learn(function: Callable[[Tensor], Tensor], x: Tensor) -> None:
    function(x.detach().requires_grad_()).square().mean().backward()


def _ratio(ours: Callable[[], Any], theirs: Callable[[], Any], most: int = PAIRS) -> tuple[float, float, int]:
    """The median of the ratios of neighbours, their interquartile range, and how many there are."""
    begun = time.monotonic()
    ratios: list[float] = []
    ours()
    theirs()
    while len(ratios) < most and (len(ratios) < 3 or time.monotonic() - begun < SECONDS):
        order = (ours, theirs) if len(ratios) % 2 else (theirs, ours)
        times = {call: _cpu_time(call) for call in order}
        ratios.append(times[ours] / times[theirs])
    low, middle, high = statistics.quantiles(ratios, n=4)
    return middle, high - low, len(ratios)


def _cpu_time(call: Callable[[], Any]) -> float:
    begun = time.thread_time()
    call()
    return time.thread_time() - begun


def on_gpu(device: str, kinds: Sequence[str] = (), seconds: float = GET_READY_SECONDS) -> None:
    """Growth, decode, and compiled forms; each row is kept as it comes."""
    kinds = kinds or [kind for kind in blocks if blocks[kind].mixes == "sequence"]
    about = {"gpu": torch.cuda.get_device_name(device), "width": 1024, "dtype": "bfloat16"}
    failed: dict[str, str] = {}

    def done(kind: str, found: dict[str, Any]) -> None:
        if "failed" in found and kind not in failed:
            failed[kind] = found["failed"]  # to be tried again without a compiler
            return
        row = {"block": kind, **found, **({"compiled": failed[kind]} if kind in failed else {})}
        keep_row("blocks_gpu", "python -m benchmarks.blocks --device cuda", ["block"], row, **about)

    options = ["--device", device]
    measured("benchmarks.blocks", kinds, options, seconds, done)
    measured("benchmarks.blocks", list(failed), [*options, "--eager"], seconds, done)


def work(kind: str, device: str, eager: bool) -> None:
    """The life of one of its processes: compile a block for both lengths; measure."""
    torch.set_float32_matmul_precision("high")
    torch.set_grad_enabled(False)
    mixer = _built(wide(kind), device, 1024)
    inputs = {n: torch.randn(4, n, 1024, device=device, dtype=torch.bfloat16) for n in LONG}
    forms: dict[str, Callable[[Tensor], Any]] = {"eager": mixer}

    def get_ready() -> dict[str, Any]:
        about = enable(device) if "Attention" in kind and not eager else {}
        if not eager:
            forms["compiled"] = torch.compile(mixer, dynamic=False)
            for name, form in _fused(kind, mixer).items():
                forms[name] = torch.compile(form, dynamic=False)
        for form in forms.values():
            for x in inputs.values():
                form(x)
        return {"fused": about}

    def measure() -> dict[str, Any]:
        row: dict[str, Any] = {**_growth(mixer, device), **_decode(mixer, device)}
        for length, x in inputs.items():
            for name, form in forms.items():
                row[f"b4_{length}_{name}_ms"] = eager_ms(lambda: form(x))  # noqa: B023 (called at once)
        return row

    serve(get_ready, measure)


def _growth(mixer: Mixer, device: str) -> dict[str, Any]:
    """Milliseconds of the eager form from 1k to 16k, and their growth."""
    times = {}
    for length in GROWTH:
        x = torch.randn(1, length, 1024, device=device, dtype=torch.bfloat16)
        times[length] = eager_ms(lambda: mixer(x))  # noqa: B023 (called at once)
    row = {f"eager_{length}_ms": ms for length, ms in times.items()}
    row["exponent"] = _slope(times)
    row["exponent_4k_on"] = _slope({n: ms for n, ms in times.items() if n >= 4096})
    return row


def _fused(kind: str, mixer: Mixer) -> dict[str, Callable[[Tensor], Tensor]]:
    """The same block around the fused kernel, with nothing else of ours in it."""
    if kind != "Attention":
        return {}
    weights = [mixer.get_parameter(name).flatten(0, -2) for name in ("wq", "wk", "wv")]
    out = mixer.get_parameter("wo").flatten(1)
    angle = torch.arange(max(LONG))[:, None] * 10_000 ** -(torch.arange(0, 64, 2) / 64)
    cos, sin = (part.repeat(1, 2).to(out.device, out.dtype) for part in (angle.cos(), angle.sin()))

    def turned(x: Tensor) -> Tensor:
        one, other = x.chunk(2, dim=-1)
        return x * cos[: x.shape[2]] + torch.cat((-other, one), dim=-1) * sin[: x.shape[2]]

    def plain(x: Tensor, rotary: bool = False) -> Tensor:
        q, k, v = (F.linear(x, w).unflatten(-1, (16, 64)).transpose(1, 2) for w in weights)
        if rotary:
            q, k = turned(q), turned(k)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return F.linear(y.transpose(1, 2).flatten(-2), out)

    return {"sdpa": plain, "sdpa_with_rotary": partial(plain, rotary=True)}


def _decode(mixer: Mixer, device: str) -> dict[str, Any]:
    """Milliseconds of one step at batch 64 behind 1k to 16k tokens, as a CUDA graph."""
    times = {}
    x = torch.randn(64, 1024, device=device, dtype=torch.bfloat16)
    for length in (1024, 4096, 16384):
        state = mixer.init_state(64, length)
        position = torch.tensor(length - 1, device=device)
        times[length] = graph_ms(lambda: mixer.step(x, state, position))  # noqa: B023
    row: dict[str, Any] = {f"step_{n}_ms": ms for n, ms in times.items()}
    state = mixer.init_state(1, 16384)
    row["state_bytes_16k"] = sum(t.numel() * t.itemsize for t in state.values())
    row["step_growth"] = times[16384] / times[1024]
    return row


def _slope(times: dict[int, float]) -> float:
    """The exponent of growth, by least squares of logarithms."""
    xs, ys = [math.log(n) for n in times], [math.log(ms) for ms in times.values()]
    return float(statistics.linear_regression(xs, ys).slope)


def _built(spec: Block, device: str, width: int = WIDTH) -> Mixer:
    with torch.device(device):
        mixer = spec.build(width)
    with torch.no_grad():
        mixer.reset_parameters(torch.Generator(device).manual_seed(0))
    return mixer.to(torch.bfloat16) if device.startswith("cuda") else mixer


def _dice() -> torch.Generator:
    return torch.Generator().manual_seed(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", help="blocks to measure; default: all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=GET_READY_SECONDS, help="to compile, on a GPU")
    parser.add_argument("--worker", metavar="KIND", help=argparse.SUPPRESS)
    parser.add_argument("--eager", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker, given.device, given.eager)
    else:
        main(given.device, given.kinds, given.seconds)
