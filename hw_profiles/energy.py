"""Energy of reading a prompt and of decoding a token, by counters of the device; nothing where it has none.

    measure_energy(model, scenario)      # {"prefill_joules": Energy(...), "decode_joules": ...}, or None

A counter (`hw_profiles.energy_counters`) counts all that the device does, so a sample is a window of many
calls, long against the counter's own steps, and is the whole energy of the window, idle power included; how
much that was is measured before (`idle_watts`). There is no estimate of energy: without a counter there is
None.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch

from hw_profiles.energy_counters import Counter, counter_of
from hw_profiles.runtimes.base import runtime_of
from hw_profiles.timing.measure import undisturbed
from hw_profiles.timing.timers import Call, on_gpu
from search_spaces.network.model import Model
from search_spaces.scenario import Scenario

ENERGY_READINGS = ("prefill_joules", "decode_joules")

WINDOWS = 3
"""How many samples are taken."""

BURST_S, LONGEST_BURST = 0.02, 64
"""Calls are handed to a device in bursts that take about so long, so that it does not wait for the CPU."""


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Joules of one call: the energy of each window over the calls in it.

    `idle_watts` is what the device took before, doing nothing for the study; `counter` says what counted.
    """

    samples_j: tuple[float, ...]
    idle_watts: float
    counter: str
    scenario: Scenario

    @property
    def median_j(self) -> float:
        """The energy of one call, for most purposes."""
        return statistics.median(self.samples_j)

    @property
    def spread(self) -> float:
        """Interquartile range over the median."""
        if len(self.samples_j) < 2 or self.median_j <= 0:
            return 0.0
        low, _, high = statistics.quantiles(self.samples_j, n=4, method="inclusive")
        return (high - low) / self.median_j

    @property
    def standard_error(self) -> float | None:
        """One standard error of the mean over windows; None for a single one."""
        if len(self.samples_j) < 2:
            return None
        return statistics.stdev(self.samples_j) / math.sqrt(len(self.samples_j))

    def to_plain(self) -> dict[str, Any]:
        """Values that JSON can hold."""
        return {
            "median_j": self.median_j,
            "spread": self.spread,
            "n": len(self.samples_j),
            "samples_j": list(self.samples_j),
            "idle_watts": self.idle_watts,
            "counter": self.counter,
            "scenario": self.scenario.to_json(),
        }


def measure_energy(
    model: Model,
    scenario: Scenario,
    *,
    seed: int = 0,
    windows: int = WINDOWS,
    window_s: float | None = None,
    counter: Counter | None = None,
) -> dict[str, Energy] | None:
    """Energy of reading the prompt and of decoding one token; None where the device has no counter.

    Raises:
        ProfileError: no such device, or it stayed busy.
    """
    counter = counter or counter_of(scenario.device)
    if counter is None:
        return None
    seconds = counter.window_s if window_s is None else window_s
    found = {}
    with undisturbed(scenario):
        calls = runtime_of(scenario).prepare(model, scenario, seed=seed)
        wait = _waiting(scenario)
        watts = _idle_watts(counter, seconds)
        both = (calls.prefill, calls.decode(scenario.decode_position))
        for name, call in zip(ENERGY_READINGS, both, strict=True):
            count, took = _calls_for(seconds / 4, _burst(call, 1, wait))  # warm, and at its clocks
            burst = max(1, min(LONGEST_BURST, round(BURST_S * count / took)))
            samples = []
            for _ in range(windows):
                counter.joules()
                bursts, _ = _calls_for(seconds, _burst(call, burst, wait))
                samples.append(counter.joules() / (bursts * burst))
            found[name] = Energy(
                samples_j=tuple(samples), idle_watts=watts, counter=counter.name, scenario=scenario
            )
    return found


def _idle_watts(counter: Counter, seconds: float) -> float:
    counter.joules()
    start = time.perf_counter()
    time.sleep(seconds)
    return counter.joules() / (time.perf_counter() - start)


def _burst(call: Call, count: int, wait: Call) -> Call:
    def burst() -> None:
        for _ in range(count):
            call()
        wait()

    return burst


def _calls_for(seconds: float, call: Call) -> tuple[int, float]:
    """Call again and again for so long: how often, and how long it really was."""
    start, count = time.perf_counter(), 0
    while (took := time.perf_counter() - start) < seconds or not count:
        call()
        count += 1
    return count, took


def _waiting(scenario: Scenario) -> Call:
    """A call that waits until the device is idle."""
    if on_gpu(scenario):
        device = torch.device(scenario.device)
        return lambda: torch.cuda.synchronize(device)
    return lambda: None
