"""What benchmarks of kernels share: clocks of a GPU, blocks of one width, a cache of kernels of one's own."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch

from search_spaces.blocks.base import Block, blocks

Call: TypeAlias = Callable[[], Any]


def timed(calls: Sequence[Call]) -> tuple[list[float], str]:
    """Milliseconds of each, and by which clock: CUDA graphs, or eager calls where one is not recorded.

    What a graph takes is the device's time; of eager calls of less than some 2 ms most is the host's.
    """
    try:
        return [graph_ms(call) for call in calls], "graph"
    except RuntimeError:
        torch.cuda.synchronize()
        return [eager_ms(call) for call in calls], "eager"


def graph_ms(call: Call) -> float:
    """Milliseconds of a call that is recorded as a CUDA graph.

    Raises:
        RuntimeError: it cannot be recorded.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return eager_ms(graph.replay)


def eager_ms(call: Call, repeats: int = 11) -> float:
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


def wide(kind: str) -> Block:
    """A block at the width of these measurements: 16 heads of 64, wherever it has heads."""
    spec = blocks[kind]()
    names = {"num_heads": 16, "head_dim": 64, "num_kv_heads": 16, "channels": 2048}
    return replace(spec, **{name: size for name, size in names.items() if hasattr(spec, name)})


def with_cache(folder: str, call: Call) -> Any:
    """What a call gives while the cache of kernels lies in this folder."""
    before = os.environ.get("NAS_CACHE")
    os.environ["NAS_CACHE"] = folder
    try:
        return call()
    finally:
        del os.environ["NAS_CACHE"]
        if before is not None:
            os.environ["NAS_CACHE"] = before
