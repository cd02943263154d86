"""How long a call takes, on a machine that other people use too.

Timing one call twenty times measures the neighbours. What repeats is a ratio: the time of a call over that of
a fixed calibration kernel run right before and right after it, because a slow moment slows both. So

* several calls are timed together, in rounds; each round visits every call once, in a fresh order, with the
  calibration kernel between any two, so that drift and neighbours fall on all of them alike;
* a CPU call is timed by the CPU time of its thread, pinned to one core, with the garbage collector off;
* the latency of a call is its median ratio times the reference time of the calibration kernel: that of its
  quiet moments, the lower decile over the session. (With the two cores of a test machine overbooked, the
  median of the kernel moved by 30 % between sessions, its lower decile by 4 %, the ratios by 6 %.) To hold
  networks against another session, a latency table say, give its reference time: then ratios are compared.

With more than one thread there is no CPU time that means latency, so the wall clock is used and nothing is
pinned. On a GPU, CUDA events are used, and no calibration, because nobody else is there.
"""

from __future__ import annotations

import copy
import gc
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import Any, TypeAlias

import torch

from search_spaces.errors import ProfileError
from search_spaces.model import Model
from search_spaces.scenario import Scenario

Call: TypeAlias = Callable[[], object]

Timer: TypeAlias = Callable[[Call, int], float]
"""Runs a call so many times in a row; returns the milliseconds of one."""

READINGS = ("prefill_ms", "decode_ms")
"""What is measured of a network: reading the prompt, and decoding one token."""

STEPS = 3
"""Decode steps in a row that make one sample of a whole network."""

QUIET_SHARE = 0.1
"""The quantile of the calibration kernel's times that stands for a quiet machine."""

WARM_UPS = 12
ROUNDS = 31


@dataclass(frozen=True)
class Latency:
    """Every timing of one call, in milliseconds; summaries are drawn from it."""

    samples_ms: tuple[float, ...]

    @cached_property
    def median_ms(self) -> float:
        """The latency, for most purposes."""
        return statistics.median(self.samples_ms)

    @property
    def n(self) -> int:
        """How many samples there are."""
        return len(self.samples_ms)

    @property
    def spread(self) -> float:
        """Interquartile range over the median: above a few percent, distrust a single sample."""
        if self.n < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.samples_ms, n=4, method="inclusive")
        return (high - low) / self.median_ms

    @cached_property
    def standard_error(self) -> float:
        """One standard error of the median, in ms, from the order statistics that bracket it.

        The ranks n/2 -+ sqrt(n)/2 are one binomial standard deviation around the median's rank. Infinite
        for a single sample.
        """
        if self.n < 2:
            return math.inf
        ordered, reach = sorted(self.samples_ms), math.sqrt(self.n) / 2
        low = max(0, math.floor((self.n - 1) / 2 - reach))
        high = min(self.n - 1, math.ceil((self.n - 1) / 2 + reach))
        return (ordered[high] - ordered[low]) / 2

    def rounded(self, digits: int = 5) -> Latency:
        """The same with so many significant digits, as tables keep it."""
        return Latency(tuple(float(f"{sample:.{digits}g}") for sample in self.samples_ms))

    def summary(self) -> dict[str, Any]:
        """Plain values for a reader."""
        error = self.standard_error if math.isfinite(self.standard_error) else None
        return {
            "median_ms": _short(self.median_ms),
            "spread": _short(self.spread),
            "standard_error_ms": error if error is None else _short(error),
            "n": self.n,
        }


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def stopwatch(
    clock: Callable[[], int] = time.thread_time_ns, settle: Callable[[], None] = lambda: None
) -> Timer:
    """A timer that reads `clock` (nanoseconds); `settle` waits for the device before each reading."""

    def time_ms(call: Call, repeats: int) -> float:
        settle()
        start = clock()
        for _ in range(repeats):
            call()
        settle()
        return (clock() - start) / 1e6 / repeats

    return time_ms


def cuda_stopwatch(device: torch.device) -> Timer:
    """A timer that reads CUDA events on the current stream of `device`."""

    def time_ms(call: Call, repeats: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.cuda.device(device):
            torch.cuda.synchronize(device)
            start.record()
            for _ in range(repeats):
                call()
            end.record()
            torch.cuda.synchronize(device)
        return start.elapsed_time(end) / repeats

    return time_ms


def clock_of(scenario: Scenario) -> str:
    """Which clock times a scenario, in words."""
    if on_gpu(scenario):
        return "CUDA events"
    return "CPU time of one pinned thread" if scenario.threads == 1 else "wall clock"


def timer_of(scenario: Scenario) -> Timer:
    """The timer of a scenario's device."""
    if on_gpu(scenario):
        return cuda_stopwatch(torch.device(scenario.device))
    return stopwatch(time.thread_time_ns if scenario.threads == 1 else time.perf_counter_ns)


def on_gpu(scenario: Scenario) -> bool:
    """Whether the scenario's device is a GPU.

    Raises:
        ProfileError: the device is not there, or of a kind that cannot be timed.
    """
    kind = scenario.device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ProfileError(f"no way to time the device {scenario.device!r}: known are cpu and cuda")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ProfileError(f"the scenario asks for {scenario.device}, but this machine has no usable GPU")
    return kind == "cuda"


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


@dataclass(frozen=True)
class Task:
    """What one sample is: `repeats` calls in a row, after one that is not timed where it is `primed`.

    Reading a prompt happens once and finds cold caches. A decode step follows another one: the whole network
    is stepped several times in a row, while a part meets its like again only after all the others, for which
    the calibration kernel stands in between.
    """

    call: Call
    primed: bool = False
    repeats: int = 1


class Rounds:
    """Timings of several tasks, taken in rounds; see the head of this file.

    `ratios` are the samples so far by task, in units of the calibration kernel (of milliseconds where there
    is none), and `calibration` is every timing of that kernel. Both are plain, so a session that was cut off
    may be continued by filling them in.
    """

    def __init__(
        self, tasks: Mapping[str, Task], timer: Timer, *, calibrate: Call | None = None, seed: int = 0
    ) -> None:
        self.tasks, self.timer, self.calibrate, self.seed = dict(tasks), timer, calibrate, seed
        self.ratios: dict[str, list[float]] = {key: [] for key in self.tasks}
        self.calibration: list[float] = []

    @property
    def done(self) -> int:
        """Rounds taken so far."""
        return min(map(len, self.ratios.values()), default=0)

    @property
    def reference_ms(self) -> float:
        """The time of the calibration kernel when nobody disturbs it."""
        if not self.calibration:
            return 1.0
        return sorted(self.calibration)[int(QUIET_SHARE * len(self.calibration))]

    def warm_up(self) -> None:
        """Run everything until it is no longer getting faster."""
        for call in (self.calibrate, *(task.call for task in self.tasks.values())):
            if call is not None:
                self._settle(call)

    def take_round(self) -> None:
        """One sample of every task."""
        order = sorted(self.tasks)
        Random(f"{self.seed}/{self.done}").shuffle(order)
        taken: dict[str, float] = {}
        before = self._calibrate()
        for key in order:
            task = self.tasks[key]
            if task.primed:
                task.call()
                before = self._calibrate()
            took = self.timer(task.call, task.repeats)
            after = self._calibrate()
            taken[key] = 2 * took / (before + after)
            before = after
        for key, ratio in taken.items():  # all or none: a round that was cut off does not count
            self.ratios[key].append(ratio)

    def latency(self, key: str, reference_ms: float | None = None) -> Latency:
        """What is known of one task, as if the calibration kernel took `reference_ms`."""
        reference = self.reference_ms if reference_ms is None else reference_ms
        return Latency(tuple(ratio * reference for ratio in self.ratios[key]))

    def _calibrate(self) -> float:
        if self.calibrate is None:
            return 1.0
        self.calibrate()  # so that it is timed warm, whatever ran before
        self.calibration.append(self.timer(self.calibrate, 1))
        return self.calibration[-1]

    def _settle(self, call: Call) -> None:
        best = self.timer(call, 1)
        for count in range(WARM_UPS):
            took = self.timer(call, 1)
            if count > 0 and took >= 0.95 * best:
                return
            best = min(took, best)


def rounds_of(
    tasks: Mapping[str, Task], scenario: Scenario, *, timer: Timer | None = None, seed: int = 0
) -> Rounds:
    """Rounds with the timer and the calibration that suit a scenario."""
    calibrate = None if on_gpu(scenario) else Calibration()
    return Rounds(tasks, timer or timer_of(scenario), calibrate=calibrate, seed=seed)


def measure_model(
    model: Model,
    scenario: Scenario,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
    reference_ms: float | None = None,
) -> dict[str, Latency]:
    """Latency of reading the prompt and of decoding one token; see `measure_networks`."""
    return measure_networks([model], scenario, rounds=rounds, seed=seed, reference_ms=reference_ms)[0]


def measure_networks(
    models: Sequence[Model],
    scenario: Scenario,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
    reference_ms: float | None = None,
    timer: Timer | None = None,
) -> list[dict[str, Latency]]:
    """Latency by reading of several networks, timed together so that they compare fairly.

    Give `table.provenance.reference_ms` to hold them against the predictions of a table.
    """
    with quiet(scenario.threads), torch.no_grad():
        tasks = {
            f"{i}/{reading}": task
            for i, model in enumerate(models)
            for reading, task in network_tasks(model, scenario, seed=seed).items()
        }
        session = rounds_of(tasks, scenario, timer=timer, seed=seed)
        session.warm_up()
        for _ in range(rounds):
            session.take_round()
    return [
        {reading: session.latency(f"{i}/{reading}", reference_ms) for reading in READINGS}
        for i in range(len(models))
    ]


def network_tasks(model: Model, scenario: Scenario, *, seed: int = 0, steps: int = STEPS) -> dict[str, Task]:
    """What to time of a network, by reading.

    Decoding is timed at one position again and again: the same state is given to every step.
    """
    model = _at_home(model, scenario)
    dice = torch.Generator().manual_seed(seed)
    shape = (scenario.batch, scenario.decode_position)
    tokens = torch.randint(model.spec.vocab, shape, generator=dice).to(scenario.device)
    prompt, token = tokens[:, : scenario.prompt], tokens[:, -1]
    with torch.no_grad():
        _, state = model.prefill(tokens, capacity=scenario.context)
    state = replace(state, position=scenario.decode_position)
    return {
        "prefill_ms": Task(lambda: model.prefill(prompt, capacity=scenario.context)),
        "decode_ms": Task(lambda: model.step(token, state), primed=True, repeats=steps),
    }


def _at_home(model: Model, scenario: Scenario) -> Model:
    """The model on the scenario's device and in its dtype; a copy where it is elsewhere."""
    dtype, device = getattr(torch, scenario.dtype), torch.device(scenario.device)
    there = model.embedding
    if (
        there.dtype == dtype
        and there.device.type == device.type
        and device.index in (None, there.device.index)
    ):
        return model
    return copy.deepcopy(model).to(device=device, dtype=dtype)
