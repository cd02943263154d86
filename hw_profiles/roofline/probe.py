"""A short measurement of the peaks of a device of this machine, as a card."""

from __future__ import annotations

import re

import torch

from foundation.text import rounded
from hw_profiles.fingerprint import cpu_model, gpu_name
from hw_profiles.roofline.cards import Card, devices_here
from hw_profiles.timing.measure import undisturbed
from hw_profiles.timing.timers import Call, Timer, check_device, clock_of, on_gpu
from search_spaces.scenario import Scenario

COPY_BYTES = {"cpu": 2**27, "cuda": 2**31}
"""What the probe copies: far more than caches hold."""

WIDTH = {"cpu": 1024, "cuda": 8192}
"""Rows of the square matrices whose product the probe times."""

TRIES = 15
SHORT_CALLS = 200


def probe(
    device: str = "cpu",
    *,
    threads: int = 1,
    dtypes: tuple[str, ...] = (),
    timer: Timer | None = None,
    size: float = 1.0,
) -> Card:
    """Measure the peaks of a device of this machine: the best of several copies, products and small calls.

    The card of a CPU is that of `threads` threads. `size` scales what is copied, for small machines.

    Raises:
        ProfileError: no such device, or it stayed busy.
    """
    scenario = Scenario(device=device, threads=threads)
    check_device(scenario)
    kind = "cuda" if on_gpu(scenario) else "cpu"
    dtypes = dtypes or (("float32", "bfloat16", "float16") if kind == "cuda" else ("float32", "float64"))
    timer = timer or clock_of(scenario).timer(device)
    with undisturbed(scenario):
        bandwidth = _bandwidth(device, int(size * COPY_BYTES[kind]), timer)
        width = max(64, int(WIDTH[kind] * size ** (1 / 3)))
        flops = {dtype: _product_rate(device, dtype, width, timer) for dtype in dtypes}
        launch_us = 1e3 * _best(_small_call(device), timer, SHORT_CALLS)
    title = gpu_name(device) or cpu_model()
    memory = next((d["memory_bytes"] for d in devices_here() if _same(d["device"], device)), None)
    how = f"probe of {title} with torch {torch.__version__}"
    sources = {
        "flops": f"{how}: product of square matrices of {width} rows",
        "bandwidth": f"{how}: copy, bytes read and written",
        "launch_us": f"{how}: one addition to a single number",
    }
    return Card(
        name=_slug(title) + ("" if kind == "cuda" else f"-{threads}-thread{'s' * (threads > 1)}"),
        title=title if kind == "cuda" else f"{title}, {threads} thread{'s' * (threads > 1)}",
        kind=kind,
        measured=True,
        matches=(title,),
        cores=threads if kind == "cpu" else 1,
        flops={dtype: rounded(rate) for dtype, rate in flops.items()},
        bandwidth=rounded(bandwidth),
        memory_bytes=memory,
        launch_us=rounded(launch_us),
        sources=sources | ({"memory_bytes": "the operating system"} if memory else {}),
    )


def _bandwidth(device: str, count: int, timer: Timer) -> float:
    source = torch.ones(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * count / (_best(lambda: target.copy_(source), timer, 1) / 1e3)


def _product_rate(device: str, dtype: str, width: int, timer: Timer) -> float:
    one = torch.ones(width, width, dtype=getattr(torch, dtype), device=device)
    out = torch.empty_like(one)
    return float(2 * width**3 / (_best(lambda: torch.mm(one, one, out=out), timer, 1) / 1e3))


def _small_call(device: str) -> Call:
    number = torch.zeros(1, device=device)
    return lambda: number.add_(1)


def _best(call: Call, timer: Timer, repeats: int) -> float:
    """Milliseconds of the fastest of several tries."""
    timer(call, repeats)
    return min(max(timer(call, repeats).ms, 1e-9) for _ in range(TRIES))


def _same(one: str, other: str) -> bool:
    return one == other or (one, other) == ("cuda:0", "cuda")


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
