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
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.common import keep, show
from search_spaces.blocks.base import Block, Mixer, blocks
from search_spaces.references import references

WIDTH, BATCH = 256, 2
LENGTHS = (512, 2048)
PAIRS, SECONDS = 11, 8.0
PATIENCE = 30.0
"""Seconds that one pass of a reference may take; a slower one is not waited for."""

LONG = (2048, 8192)
COMPILERS, COMPILE_SECONDS = 12, 150.0
GROWTH = (1024, 2048, 4096, 8192, 16384)
SEQUENTIAL = ("Mamba", "Mamba2", "RGLRU", "RWKV6", "MLSTM", "Retention", "GatedLinearAttention", "DeltaNet")
"""Recurrences whose step, token by token, is the sequential form."""


def main(device: str = "cpu") -> None:
    """Run, print and keep."""
    (on_gpu if device.startswith("cuda") else on_cpu)(device)


def on_cpu(device: str) -> None:
    """Ratios to the references and to the sequential form."""
    torch.set_num_threads(1)
    rows = [row for length in LENGTHS for kind in blocks for row in _against_reference(kind, length)]
    show("forward + backward, time over the reference's", rows)
    sequential = [_against_sequential(kind) for kind in SEQUENTIAL if kind in blocks]
    show("forward + backward at T 512, time over that of the sequential form", sequential)
    keep("blocks_cpu", "python -m benchmarks blocks", rows, sequential=sequential)


def _against_reference(kind: str, length: int) -> list[dict[str, Any]]:
    spec = blocks[kind]()
    known = references.get(kind) if kind in references else None
    if known is None or known.needs is None or not known.installed:
        return []
    mixer = _built(spec, "cpu")
    weights = {name: p.detach().clone() for name, p in mixer.named_parameters()}
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


def on_gpu(device: str) -> None:
    """Growth, decode, and compiled forms."""
    torch.set_float32_matmul_precision("high")
    kinds = [kind for kind in blocks if blocks[kind].mixes == "sequence"]
    compiled = _compiled_elsewhere(kinds, device)
    prefill, decode = [], []
    for kind in kinds:
        prefill.append({**_reported(_prefill, kind, device), "compile_s": compiled[kind]})
        decode.append(_reported(_decode, kind, device))
        print(prefill[-1], decode[-1], flush=True)
    about = {"gpu": torch.cuda.get_device_name(device), "width": 1024, "dtype": "bfloat16"}
    keep("blocks_gpu", "python -m benchmarks.blocks --device cuda", prefill, decode=decode, **about)


def _compiled_elsewhere(kinds: list[str], device: str) -> dict[str, float | str]:
    """Seconds to compile each block, in processes side by side; they leave their kernels in the cache."""
    waiting, running, seconds = list(kinds), dict[str, tuple[subprocess.Popen[str], float]](), {}
    while waiting or running:
        while waiting and len(running) < COMPILERS:
            kind = waiting.pop(0)
            command = [sys.executable, "-m", "benchmarks.blocks", "--device", device, "--compile", kind]
            running[kind] = (subprocess.Popen(command, text=True, stderr=subprocess.PIPE), time.monotonic())
        for kind, (process, begun) in list(running.items()):
            late = time.monotonic() - begun > COMPILE_SECONDS
            if late:
                process.kill()
            if late or process.poll() is not None:
                done = process.returncode == 0 and not late
                errors = (process.stderr.read() if process.stderr and not late else "").strip()
                reason = "too slow" if late else (errors.splitlines() or ["died"])[-1][:200]
                seconds[kind] = time.monotonic() - begun if done else reason
                del running[kind]
        time.sleep(0.2)
    return seconds


def compile_one(kind: str, device: str) -> None:
    """Compile a block for both lengths, and leave the result in the cache."""
    torch.set_float32_matmul_precision("high")
    mixer = _built(_wide(kind), device, 1024)
    compiled = torch.compile(mixer, dynamic=False)
    for length in LONG:
        with torch.no_grad():
            compiled(torch.randn(4, length, 1024, device=device, dtype=torch.bfloat16))


def _reported(measure: Callable[[str, str], dict[str, Any]], kind: str, device: str) -> dict[str, Any]:
    """A measurement, or why there is none: one block must not take the others' results with it."""
    try:
        return measure(kind, device)
    except Exception as error:
        return {"block": kind, "failed": f"{type(error).__name__}: {str(error)[:200]}"}
    finally:
        torch._dynamo.reset()
        torch.cuda.empty_cache()


def _wide(kind: str) -> Block:
    """A block at the width of the GPU measurements: 16 heads of 64, wherever it has heads."""
    spec = blocks[kind]()
    names = {"num_heads": 16, "head_dim": 64, "num_kv_heads": 16, "channels": 2048}
    return replace(spec, **{name: size for name, size in names.items() if hasattr(spec, name)})


def _prefill(kind: str, device: str) -> dict[str, Any]:
    """Milliseconds of the eager form from 1k to 16k, their growth, and those of the compiled form."""
    mixer = _built(_wide(kind), device, 1024)
    row: dict[str, Any] = {"block": kind}
    times = {}
    for length in GROWTH:
        x = torch.randn(1, length, 1024, device=device, dtype=torch.bfloat16)
        with torch.no_grad():
            times[length] = _gpu_ms(lambda: mixer(x))  # noqa: B023 (called at once)
        row[f"eager_{length}_ms"] = times[length]
    row["exponent"] = _slope(times)
    row["exponent_4k_on"] = _slope({n: ms for n, ms in times.items() if n >= 4096})
    compiled = torch.compile(mixer, dynamic=False)
    for length in LONG:
        x = torch.randn(4, length, 1024, device=device, dtype=torch.bfloat16)
        with torch.no_grad():
            row[f"b4_{length}_eager_ms"] = _gpu_ms(lambda: mixer(x))  # noqa: B023
            compiled(x)
            row[f"b4_{length}_ms"] = _gpu_ms(lambda: compiled(x))  # noqa: B023
            fused = _fused(kind, mixer, x)
            if fused is not None:
                row[f"over_fused_{length}"] = row[f"b4_{length}_ms"] / fused
    return row


def _fused(kind: str, mixer: Mixer, x: Tensor) -> float | None:
    """Milliseconds of the same block around the fused kernel, with nothing else of ours in it."""
    if kind != "Attention":
        return None
    weights = [mixer.get_parameter(name).flatten(0, -2) for name in ("wq", "wk", "wv")]
    out = mixer.get_parameter("wo").flatten(1)

    def plain(x: Tensor) -> Tensor:
        q, k, v = (F.linear(x, w).unflatten(-1, (16, 64)).transpose(1, 2) for w in weights)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return F.linear(y.transpose(1, 2).flatten(-2), out)

    compiled = torch.compile(plain, dynamic=False)
    compiled(x)
    return _gpu_ms(lambda: compiled(x))


def _decode(kind: str, device: str) -> dict[str, Any]:
    """Milliseconds of one step at batch 64 behind 1k to 16k tokens, as a CUDA graph."""
    mixer, times = _built(_wide(kind), device, 1024), {}
    x = torch.randn(64, 1024, device=device, dtype=torch.bfloat16)
    for length in (1024, 4096, 16384):
        state = mixer.init_state(64, length)
        position = torch.tensor(length - 1, device=device)
        with torch.no_grad():
            times[length] = _graph_ms(lambda: mixer.step(x, state, position))  # noqa: B023
    row: dict[str, Any] = {"block": kind, **{f"step_{n}_ms": ms for n, ms in times.items()}}
    state = mixer.init_state(1, 16384)
    row["state_bytes_16k"] = sum(t.numel() * t.itemsize for t in state.values())
    row["growth"] = times[16384] / times[1024]
    return row


def _graph_ms(call: Callable[[], Any]) -> float:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return _gpu_ms(graph.replay)


def _gpu_ms(call: Callable[[], Any], repeats: int = 11) -> float:
    """The median of repeats, each long enough to be timed; fewer of what takes very long."""
    begun = time.monotonic()
    call()
    torch.cuda.synchronize()
    slow = time.monotonic() - begun > 0.3
    if not slow:
        call()
    times = []
    for _ in range(3 if slow else repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(1 if slow else 4):
            call()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / (1 if slow else 4))
    return statistics.median(times)


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
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", metavar="KIND", help="only compile this block")
    given = parser.parse_args()
    if given.compile:
        compile_one(given.compile, given.device)
    else:
        main(given.device)
