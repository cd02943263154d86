"""Calls timed in rounds, on a machine that other people use too.

Timing one call twenty times measures the neighbours. What repeats is a ratio: the time of a call over that of
a fixed calibration kernel run right before and right after it, because a slow moment slows both. So

* several calls are timed together, in rounds; each round visits every call once, in a fresh order, with the
  calibration kernel between any two, so that drift and neighbours fall on all of them alike;
* a decode step follows other ones: on a CPU its sample is the middle one of a run of steps. The first ones of
  a run find the caches that the call before left, as does one behind a preemption; where a step takes a tenth
  of a millisecond, such a one takes two to four times as long;
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

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random

from foundation.text import percent
from hw_profiles.runtimes.base import runtime_of
from hw_profiles.timing.timers import (
    OWN_CORE,
    Calibration,
    Call,
    GpuCalibration,
    Timer,
    Timing,
    disturbances,
    gpu_clock,
    machine_load,
    on_gpu,
)
from hw_profiles.timing.timings import Latency
from search_spaces.scenario import Scenario

GPU_SAMPLE_MS = 2.0
GPU_REPEATS = 200
"""On a GPU, a sample is so many calls that it takes about so long, up to a limit."""

RUN_MS = 2.0
RUN_STEPS = 100
"""On a CPU, a run of steps is so long, up to so many steps: long enough that few of them are cold, short
enough that most runs keep the core."""

TRIES = 3
"""How often a call is tried to see how many make a sample; the fastest counts, which is a warm one."""

QUIET_SHARE = 0.1
"""The quantile of the calibration kernel's times that stands for a quiet machine."""

SETTLED = 0.05
"""Half the 90 % interval over the median, above which a latency has not settled."""

RETRIES = 4
SHORT_MS = 6.0
"""How often a sample that lost the core is taken again, and up to which length: about two slices of a
scheduler, which a longer sample can hardly miss."""

WARM_UPS = 12


@dataclass(frozen=True)
class TimedCall:
    """What one sample is: `repeats` calls in a row, after one that is not timed where it is `primed`.

    Reading a prompt happens once and finds cold caches; a decode step follows other ones.
    """

    call: Call
    primed: bool = False
    repeats: int = 1


class Rounds:
    """Timings of several calls, taken in rounds; see the head of this file.

    `ratios` are the samples so far by call, in units of the calibration kernel (of milliseconds where it does
    not divide), `walls` the same by the wall clock, and `calibration` every timing of that kernel.
    """

    def __init__(
        self,
        calls: Mapping[str, TimedCall],
        timer: Timer,
        *,
        calibrate: Call | None = None,
        divide: bool = True,
        seed: int = 0,
        load: Callable[[], tuple[float, float]] = machine_load,
    ) -> None:
        self.calls, self.timer, self.calibrate, self.seed = dict(calls), timer, calibrate, seed
        self.load = load
        self.divide = divide and calibrate is not None
        self.ratios: dict[str, list[float]] = {key: [] for key in self.calls}
        self.walls: dict[str, list[float]] = {key: [] for key in self.calls}
        self.calibration: list[Timing] = []
        self.clocks: list[int] = []
        self.watched_gpu: str | None = None

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
        for call in (self.calibrate, *(timed.call for timed in self.calls.values())):
            if call is not None:
                self._settle(call)

    def stretch(self, sample_ms: float, most: int, *, primed: bool = False) -> None:
        """Repeat short calls, or only those that are primed, within a sample, so that it takes so long."""
        for key, timed in self.calls.items():
            if timed.primed or not primed:
                took = max(1e-6, min(self.timer(timed.call, 2).ms for _ in range(TRIES)))
                repeats = min(most, max(timed.repeats, math.ceil(sample_ms / took)))
                self.calls[key] = replace(timed, repeats=repeats)

    def take_round(self) -> None:
        """One sample of every call."""
        order = sorted(self.calls)
        Random(f"{self.seed}/{self.done}").shuffle(order)
        taken: dict[str, Timing] = {}
        before = self._calibrate()
        for key in order:
            before, took, after = self._sample(self.calls[key], before)
            taken[key] = Timing(*(2 * t / (b + a) for t, b, a in zip(took, before, after, strict=True)))
            before = after
        for key, ratio in taken.items():  # all or none: a round that was cut off does not count
            self.ratios[key].append(ratio.ms)
            self.walls[key].append(ratio.wall_ms)
        clock = gpu_clock(self.watched_gpu) if self.watched_gpu else None
        self.clocks += [] if clock is None else [clock]

    def _sample(self, timed: TimedCall, before: Timing) -> tuple[Timing, Timing, Timing]:
        """One sample, between two timings of the calibration kernel."""
        for _ in range(1 + RETRIES):
            if timed.primed:
                timed.call()
                before = self._calibrate() if self.divide else before
            took = self._take(timed)
            after = self._calibrate() if self.divide else before
            found = before, took, after
            if not self.divide or took.ms * timed.repeats > SHORT_MS or not any(map(_was_preempted, found)):
                break
            before = after
        return found

    def _take(self, timed: TimedCall) -> Timing:
        """One call of a sample: of steps in a run the middle one, of all else the mean."""
        if not (self.divide and timed.primed):
            return self.timer(timed.call, timed.repeats)
        run = [self.timer(timed.call, 1) for _ in range(timed.repeats)]
        return Timing(*(statistics.median(column) for column in zip(*run, strict=True)))

    def take_until(self, fewest: int, most: int, within: float, seconds: float = math.inf) -> None:
        """Rounds until every call has settled, or the time is up; so many at least and at most."""
        began = time.monotonic()
        while self.done < fewest:
            self.take_round()
        while (
            self.done < most
            and time.monotonic() - began < seconds
            and any(self.latency(key).uncertainty > within for key in self.calls)
        ):
            self.take_round()

    def latency(self, key: str, reference_ms: float | None = None) -> Latency:
        """What is known of one call, as if the calibration kernel took `reference_ms`."""
        quiet_time = self._reference()
        scale = 1.0 if reference_ms is None or not self.divide else reference_ms / quiet_time.ms
        samples = tuple(ratio * quiet_time.ms * scale for ratio in self.ratios[key])
        return Latency(samples, tuple(ratio * quiet_time.wall_ms * scale for ratio in self.walls[key]))

    def marked(self, found: Latency, within: float = SETTLED) -> Latency:
        """The same, with the reason where it has not settled."""
        if found.uncertainty <= within:
            return found
        reason = self.disturbances() or "nothing was seen to disturb it"
        off = percent(found.uncertainty) if math.isfinite(found.uncertainty) else "unknown"
        unsettled = f"did not converge after {found.n} samples (90 % interval: {off}): {reason}"
        return replace(found, unsettled=unsettled)

    def disturbances(self) -> str:
        """What was unusual about the machine."""
        return disturbances(self.calibration, self.load(), self.clocks)

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


def _was_preempted(timing: Timing) -> bool:
    return timing.ms < OWN_CORE * timing.wall_ms


def rounds_of(
    calls: Mapping[str, TimedCall], scenario: Scenario, *, timer: Timer | None = None, seed: int = 0
) -> Rounds:
    """Rounds with the timer and the calibration that suit a scenario."""
    gpu = on_gpu(scenario)
    timer = timer or runtime_of(scenario).clock(scenario).timer(scenario.device)
    if not gpu:
        return Rounds(calls, timer, calibrate=Calibration(), seed=seed)
    session = Rounds(calls, timer, calibrate=GpuCalibration(scenario.device), divide=False, seed=seed)
    session.watched_gpu = scenario.device
    return session


def warmed(session: Rounds, scenario: Scenario) -> Rounds:
    """The rounds, ready to be taken."""
    session.warm_up()
    if on_gpu(scenario):
        session.stretch(GPU_SAMPLE_MS, GPU_REPEATS)
    else:
        session.stretch(RUN_MS, RUN_STEPS, primed=True)
    return session
