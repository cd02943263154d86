"""Clocks, the calibration kernel, and what is known of who else uses the machine.

A CPU call is timed by the CPU time of its thread, pinned to one core, and by the wall clock beside it; with
more threads there is no CPU time that means latency, and the wall clock counts. A GPU call is timed by CUDA
events around so many calls that the events' own resolution does not matter.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import NamedTuple, TypeAlias

import torch

from foundation.errors import ProfileError
from search_spaces.devices import count_here, told_here
from search_spaces.scenario import Scenario

Call: TypeAlias = Callable[[], object]


class Timing(NamedTuple):
    """Milliseconds of one call: by the clock of the scenario, and by the wall clock."""

    ms: float
    wall_ms: float


Timer: TypeAlias = Callable[[Call, int], Timing]
"""Runs a call so many times in a row; returns the time of one."""

ALLOWED_DRIFT = 0.1
"""How far the calibration kernel may move within a session before a reader is told."""

OWN_CORE = 0.9
"""The share of its core below which the timed thread had company."""


def stopwatch(
    clock: Callable[[], int] = time.thread_time_ns, wall: Callable[[], int] = time.perf_counter_ns
) -> Timer:
    """A timer that reads `clock` and `wall` (nanoseconds)."""

    def timed(call: Call, repeats: int) -> Timing:
        wall_start, start = wall(), clock()
        for _ in range(repeats):
            call()
        end, wall_end = clock(), wall()
        return Timing((end - start) / 1e6 / repeats, (wall_end - wall_start) / 1e6 / repeats)

    return timed


def cuda_stopwatch(device: torch.device) -> Timer:
    """A timer that reads CUDA events on the current stream of `device`."""

    def timed(call: Call, repeats: int) -> Timing:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.cuda.device(device):
            torch.cuda.synchronize(device)
            began = time.perf_counter_ns()
            start.record()
            for _ in range(repeats):
                call()
            end.record()
            torch.cuda.synchronize(device)
        wall_ms = (time.perf_counter_ns() - began) / 1e6
        return Timing(start.elapsed_time(end) / repeats, wall_ms / repeats)

    return timed


class Clock(StrEnum):
    """What calls are timed by."""

    THREAD = "CPU time of one pinned thread"
    PROCESS = "CPU time of all threads of the process, pinned to one core"
    WALL = "wall clock"
    EVENTS = "CUDA events"

    def timer(self, device: str) -> Timer:
        """A timer that reads this clock."""
        if self is Clock.EVENTS:
            return cuda_stopwatch(torch.device(device))
        clocks = {Clock.THREAD: time.thread_time_ns, Clock.PROCESS: time.process_time_ns}
        return stopwatch(clocks.get(self, time.perf_counter_ns))


def clock_of(scenario: Scenario) -> Clock:
    """The most precise clock for calls that run in the calling thread; the device need not be here."""
    if scenario.device.startswith("cuda"):
        return Clock.EVENTS
    return Clock.THREAD if scenario.threads == 1 else Clock.WALL


def on_gpu(scenario: Scenario) -> bool:
    """Whether the scenario's device is a GPU.

    Raises:
        ProfileError: the device is not there, or of a kind that cannot be timed.
    """
    kind = scenario.device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ProfileError(f"unsupported device {scenario.device!r}: latency is measured on cpu and cuda")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ProfileError(f"the scenario asks for {scenario.device}, and {told_here(scenario.device)}")
    return kind == "cuda"


def check_device(scenario: Scenario) -> None:
    """Make sure that a scenario can be timed here.

    Raises:
        ProfileError: the device is not there, or of a kind that cannot be timed, or has fewer cores.
    """
    _, _, index = scenario.device.partition(":")
    if on_gpu(scenario):
        if index and not (index.isdecimal() and int(index) < count_here(scenario.device)):
            raise ProfileError(f"the scenario asks for {scenario.device}, and {told_here(scenario.device)}")
        return
    if index:
        raise ProfileError(f"all cores of a machine are one device, cpu, got {scenario.device!r}")
    if scenario.threads > count_here(scenario.device):
        raise ProfileError(
            f"the scenario asks for {scenario.threads} threads, and {told_here(scenario.device)}"
        )


@contextmanager
def quiet(threads: int) -> Iterator[None]:
    """Pin this thread to one core (with one thread), set torch's threads, stop the garbage collector.

    All three are as before afterwards, whatever happened inside.
    """
    torch_threads, collecting = torch.get_num_threads(), gc.isenabled()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    try:
        torch.set_num_threads(threads)
        if cores and threads == 1:
            os.sched_setaffinity(0, {max(cores)})
        gc.collect()
        gc.disable()
        yield
    finally:
        if collecting:
            gc.enable()
        if cores:
            os.sched_setaffinity(0, cores)
        torch.set_num_threads(torch_threads)


class Calibration:
    """A fixed piece of work like that of a small network: products, elementwise steps, Python between."""

    def __init__(self) -> None:
        dice = torch.Generator().manual_seed(0)
        self.x, self.weight = (torch.randn(n, 96, generator=dice) for n in (128, 96))
        self.token = self.x[:1]

    def __call__(self) -> None:
        """Do it once: a few tenths of a millisecond."""
        with torch.no_grad():
            for x in (self.x, self.token, self.token):
                y = torch.nn.functional.silu(x @ self.weight.T)
                (x + y @ self.weight).softmax(-1)


class GpuCalibration:
    """A product of two matrices: tells whether the clocks of a GPU moved while others were timed."""

    def __init__(self, device: str) -> None:
        self.x = torch.ones(2048, 2048, device=device, dtype=torch.bfloat16)
        self.y = torch.empty_like(self.x)

    def __call__(self) -> None:
        """Do it once: a few hundredths of a millisecond."""
        torch.mm(self.x, self.x, out=self.y)


def disturbances(
    calibration: Sequence[Timing], loads: tuple[float, float], clocks: Sequence[int] = ()
) -> str:
    """What was unusual about the machine while timings were taken, in words; empty where nothing was.

    `loads` are the machine's runnable processes (its load average) and its cores.
    """
    told = []
    times = [timing.ms for timing in calibration]
    third = len(times) // 3
    if third >= 3:
        ends = [statistics.median(part) for part in (times[:third], times[-third:])]
        if abs(ends[1] / ends[0] - 1) > ALLOWED_DRIFT:
            told.append(f"the calibration kernel went from {ends[0]:.4g} to {ends[1]:.4g} ms")
        low, middle, high = statistics.quantiles(times, n=4)
        if (high - low) / middle > 2 * ALLOWED_DRIFT:
            told.append(f"the calibration kernel spread over {low:.4g} to {high:.4g} ms")
    share = sum(times) / max(1e-9, sum(timing.wall_ms for timing in calibration))
    if times and share < OWN_CORE:
        told.append(f"the timed thread got {100 * share:.0f} % of its core")
    if loads[0] > loads[1]:
        told.append(f"load of {loads[0]:.1f} on {loads[1]:.0f} cores")
    if clocks and max(clocks) - min(clocks) > ALLOWED_DRIFT / 2 * max(clocks):
        told.append(f"the GPU's clock moved between {min(clocks)} and {max(clocks)} MHz")
    return "; ".join(told)


def machine_load() -> tuple[float, float]:
    """The load average over a minute, and the cores."""
    return (os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0), float(os.cpu_count() or 1)


def gpu_clock(device: str) -> int | None:
    """The clock of a GPU in MHz; None where it cannot be read."""
    try:
        return int(torch.cuda.clock_rate(torch.device(device)))
    except (ModuleNotFoundError, RuntimeError, AssertionError, _driver_error()):
        return None


def _driver_error() -> type[Exception]:
    """What the driver's Python binding, where there is one, raises if a device does not tell."""
    found: type[Exception] = getattr(sys.modules.get("pynvml"), "NVMLError", RuntimeError)
    return found
