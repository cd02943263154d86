"""How long a network takes, on a machine that other people use too.

Timing one call twenty times measures the neighbours. What repeats is a ratio: the time of a call over that of
a fixed calibration kernel run right before and right after it, because a slow moment slows both. So

* several calls are timed together, in rounds; each round visits every call once, in a fresh order, with the
  calibration kernel between any two, so that drift and neighbours fall on all of them alike;
* a CPU call is timed by the CPU time of its thread, pinned to one core, with the garbage collector off, and
  by the wall clock beside it; where the two tell that a short sample lost the core for a while, it is taken
  again, a few times at most: what it measured is the neighbour, and the caches that it left behind;
* the latency of a call is its median ratio times the reference time of the calibration kernel: that of its
  quiet moments, the lower decile over the session. (With the two cores of a test machine overbooked, the
  median of the kernel moved by 30 % between sessions, its lower decile by 4 %, the ratios by 6 %.) To hold
  networks against another session, a latency table say, give its reference time: then ratios are compared;
* rounds go on until the bootstrap interval of every median is narrow, or a limit is reached; what is still
  wide then is marked, with what was seen to disturb it, or refused (`strict`);
* nothing else of a study runs on the device meanwhile (`hw_profiles.timing.locks`).

With more than one thread there is no CPU time that means latency, so the wall clock is used and nothing is
pinned. On a GPU, CUDA events around many calls are used; they repeat within 0.1 %, so that the calibration
kernel only watches the clocks.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

import torch

from foundation.errors import ProfileError
from hw_profiles.runtimes.base import runtime_of
from hw_profiles.timing.locks import exclusive
from hw_profiles.timing.timers import (
    CROWDED,
    Calibration,
    Call,
    GpuCalibration,
    Timer,
    Timing,
    disturbances,
    gpu_clock,
    machine_load,
    on_gpu,
    quiet,
)
from hw_profiles.timing.timings import READINGS, Latency
from search_spaces.network.model import Model
from search_spaces.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["READINGS", "Latency", "measure_model", "measure_networks", "quiet"]

STEPS = 3
"""Decode steps in a row that make one sample on a CPU."""

GPU_SAMPLE_MS = 2.0
GPU_REPEATS = 200
"""On a GPU, a sample is so many calls that it takes about so long, up to a limit."""

QUIET_SHARE = 0.1
"""The quantile of the calibration kernel's times that stands for a quiet machine."""

SETTLED = 0.05
"""Half the 90 % interval over the median, above which a latency has not settled."""

RETRIES = 4
SHORT_MS = 6.0
"""How often a sample that lost the core is taken again, and up to which length: about two slices of a
scheduler, which a longer sample can hardly miss."""

WARM_UPS = 12
ROUNDS = 31
PATIENCE = 3
"""Rounds of a measurement of whole networks, and how many times as many it may take to settle."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What one sample is: `repeats` calls in a row, after one that is not timed where it is `primed`.

    Reading a prompt happens once and finds cold caches; a decode step follows another one.
    """

    call: Call
    primed: bool = False
    repeats: int = 1


class Rounds:
    """Timings of several tasks, taken in rounds; see the head of this file.

    `ratios` are the samples so far by task, in units of the calibration kernel (of milliseconds where it does
    not divide), `walls` the same by the wall clock, and `calibration` every timing of that kernel.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        timer: Timer,
        *,
        calibrate: Call | None = None,
        divide: bool = True,
        seed: int = 0,
    ) -> None:
        self.tasks, self.timer, self.calibrate, self.seed = dict(tasks), timer, calibrate, seed
        self.divide = divide and calibrate is not None
        self.ratios: dict[str, list[float]] = {key: [] for key in self.tasks}
        self.walls: dict[str, list[float]] = {key: [] for key in self.tasks}
        self.calibration: list[Timing] = []
        self.clocks: list[int] = []
        self.watched: str | None = None

    @property
    def done(self) -> int:
        """Rounds taken so far."""
        return min(map(len, self.ratios.values()), default=0)

    @property
    def reference_ms(self) -> float:
        """The time of the calibration kernel when nobody disturbs it."""
        return self._reference().ms

    def _reference(self) -> Timing:
        if not self.calibration or not self.divide:
            return Timing(1.0, 1.0)
        rank = int(QUIET_SHARE * len(self.calibration))
        columns = zip(*self.calibration, strict=True)
        return Timing(*(sorted(column)[rank] for column in columns))

    def warm_up(self) -> None:
        """Run everything until it is no longer getting faster."""
        for call in (self.calibrate, *(task.call for task in self.tasks.values())):
            if call is not None:
                self._settle(call)

    def stretch(self, sample_ms: float, most: int) -> None:
        """Repeat short calls within a sample, so that it takes about so long."""
        for key, task in self.tasks.items():
            took = max(self.timer(task.call, 2).ms, 1e-6)
            repeats = min(most, max(task.repeats, math.ceil(sample_ms / took)))
            self.tasks[key] = replace(task, repeats=repeats)

    def take_round(self) -> None:
        """One sample of every task."""
        order = sorted(self.tasks)
        Random(f"{self.seed}/{self.done}").shuffle(order)
        taken: dict[str, Timing] = {}
        before = self._calibrate()
        for key in order:
            before, took, after = self._sample(self.tasks[key], before)
            taken[key] = Timing(*(2 * t / (b + a) for t, b, a in zip(took, before, after, strict=True)))
            before = after
        for key, ratio in taken.items():  # all or none: a round that was cut off does not count
            self.ratios[key].append(ratio.ms)
            self.walls[key].append(ratio.wall_ms)
        clock = gpu_clock(self.watched) if self.watched else None
        self.clocks += [] if clock is None else [clock]

    def _sample(self, task: Task, before: Timing) -> tuple[Timing, Timing, Timing]:
        """One sample, between two timings of the calibration kernel."""
        for _ in range(1 + RETRIES):
            if task.primed:
                task.call()
                before = self._calibrate() if self.divide else before
            took = self.timer(task.call, task.repeats)
            after = self._calibrate() if self.divide else before
            found = before, took, after
            if not self.divide or took.ms * task.repeats > SHORT_MS or not any(map(_lost_the_core, found)):
                break
            before = after
        return found

    def take_until(self, fewest: int, most: int, within: float, seconds: float = math.inf) -> None:
        """Rounds until every task has settled, or the time is up; so many at least and at most."""
        began = time.monotonic()
        while self.done < fewest:
            self.take_round()
        while (
            self.done < most
            and time.monotonic() - began < seconds
            and any(self.latency(key).uncertainty > within for key in self.tasks)
        ):
            self.take_round()

    def latency(self, key: str, reference_ms: float | None = None) -> Latency:
        """What is known of one task, as if the calibration kernel took `reference_ms`."""
        quiet_time = self._reference()
        scale = 1.0 if reference_ms is None or not self.divide else reference_ms / quiet_time.ms
        samples = tuple(ratio * quiet_time.ms * scale for ratio in self.ratios[key])
        return Latency(samples, tuple(ratio * quiet_time.wall_ms * scale for ratio in self.walls[key]))

    def judged(self, found: Latency, within: float = SETTLED) -> Latency:
        """The same, with the reason where it has not settled."""
        if found.uncertainty <= within:
            return found
        seen = self.disturbances() or "nothing was seen to disturb it"
        off = f"{100 * found.uncertainty:.1f} %" if math.isfinite(found.uncertainty) else "unknown"
        told = f"not settled after {found.n} samples (90 % interval: {off}): {seen}"
        return replace(found, unsettled=told)

    def disturbances(self) -> str:
        """What was unusual about the machine."""
        return disturbances(self.calibration, machine_load(), self.clocks)

    def _calibrate(self) -> Timing:
        if self.calibrate is None:
            return Timing(1.0, 1.0)
        self.calibrate()  # so that it is timed warm, whatever ran before
        self.calibration.append(self.timer(self.calibrate, 1 if self.divide else 20))
        return self.calibration[-1] if self.divide else Timing(1.0, 1.0)

    def _settle(self, call: Call) -> None:
        best = self.timer(call, 1).ms
        for count in range(WARM_UPS):
            took = self.timer(call, 1).ms
            if count > 0 and took >= 0.95 * best:
                return
            best = min(took, best)


def _lost_the_core(timing: Timing) -> bool:
    return timing.ms < CROWDED * timing.wall_ms


def rounds_of(
    tasks: Mapping[str, Task], scenario: Scenario, *, timer: Timer | None = None, seed: int = 0
) -> Rounds:
    """Rounds with the timer and the calibration that suit a scenario."""
    gpu = on_gpu(scenario)
    timer = timer or runtime_of(scenario).clock(scenario).timer(scenario.device)
    if not gpu:
        return Rounds(tasks, timer, calibrate=Calibration(), seed=seed)
    session = Rounds(tasks, timer, calibrate=GpuCalibration(scenario.device), divide=False, seed=seed)
    session.watched = scenario.device
    return session


def warmed(session: Rounds, scenario: Scenario) -> Rounds:
    """The rounds, ready to be taken."""
    session.warm_up()
    if on_gpu(scenario):
        session.stretch(GPU_SAMPLE_MS, GPU_REPEATS)
    return session


@contextmanager
def undisturbed(scenario: Scenario) -> Iterator[None]:
    """The scenario's device to oneself, its threads set, and no gradients: for timing."""
    with exclusive(scenario.device), quiet(scenario.threads), torch.no_grad():
        yield


def measure_model(
    model: Model,
    scenario: Scenario,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
    reference_ms: float | None = None,
    strict: bool = False,
) -> dict[str, Latency]:
    """Latency of reading the prompt and of decoding one token; see `measure_networks`."""
    return measure_networks(
        [model], scenario, rounds=rounds, seed=seed, reference_ms=reference_ms, strict=strict
    )[0]


def measure_networks(
    models: Sequence[Model],
    scenario: Scenario,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
    reference_ms: float | None = None,
    timer: Timer | None = None,
    strict: bool = False,
) -> list[dict[str, Latency]]:
    """Latency by reading of several networks, timed together so that they compare fairly.

    Takes `rounds` rounds, and up to three times as many to settle. What has not settled then carries the
    reason (`Latency.unsettled`) and is logged; with `strict` it is refused. Give
    `table.provenance.reference_ms` to hold the networks against the predictions of a table.

    Raises:
        ProfileError: the device cannot be timed, stayed busy, or (`strict`) a latency did not settle.
    """
    with undisturbed(scenario):
        tasks = {
            f"{i}/{reading}": task
            for i, model in enumerate(models)
            for reading, task in network_tasks(model, scenario, seed=seed).items()
        }
        session = warmed(rounds_of(tasks, scenario, timer=timer, seed=seed), scenario)
        session.take_until(rounds, PATIENCE * rounds, SETTLED)
    found = [
        {reading: session.judged(session.latency(f"{i}/{reading}", reference_ms)) for reading in READINGS}
        for i in range(len(models))
    ]
    _report(found, strict)
    return found


def _report(found: Sequence[Mapping[str, Latency]], strict: bool) -> None:
    """Say what has not settled."""
    told = [
        f"network {i}, {reading}: {latency.unsettled}"
        for i, readings in enumerate(found)
        for reading, latency in readings.items()
        if latency.unsettled
    ]
    if told and strict:
        raise ProfileError("; ".join(told))
    for line in told:
        _log.warning(line)


def network_tasks(model: Model, scenario: Scenario, *, seed: int = 0) -> dict[str, Task]:
    """What to time of a network, by reading.

    Decoding is timed at one position again and again (`Scenario.decode_position`).
    """
    with torch.no_grad():
        calls = runtime_of(scenario).prepare(model, scenario, seed=seed)
        return {
            "prefill_ms": Task(calls.prefill),
            "decode_ms": Task(calls.decode(scenario.decode_position), primed=True, repeats=STEPS),
        }
