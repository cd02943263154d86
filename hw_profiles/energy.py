"""Energy of reading a prompt and of decoding a token, by counters of the device; nothing where it has none.

    measure_energy(model, scenario)      # {"prefill_joules": Energy(...), "decode_joules": ...}, or None

NVIDIA GPUs count millijoules since the driver was loaded (NVML, nvmlDeviceGetTotalEnergyConsumption, from
Volta on); Intel and AMD CPUs count microjoules of a package (RAPL, /sys/class/powercap), where the system
lets one read them. A counter counts all that the device does, so a sample is a window of many calls, long
against the counter's own steps, and is the whole energy of the window, idle power included; how much that
was is measured before (`idle_watts`). There is no estimate of energy: without a counter there is None.
"""

from __future__ import annotations

import ctypes
import math
import statistics
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch

from hw_profiles.runtimes.base import runtime_of
from hw_profiles.timing.measure import undisturbed
from hw_profiles.timing.timers import Call, on_gpu
from search_spaces.network.model import Model
from search_spaces.scenario import Scenario

POWERCAP = Path("/sys/class/powercap")
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


class Counter(ABC):
    """Something that counts the energy of a device."""

    name: ClassVar[str]
    window_s: ClassVar[float]
    """How long a sample must be to be long against the counter's steps."""

    @abstractmethod
    def joules(self) -> float:
        """Joules since the last call of `joules` or since it was made."""


class Rapl(Counter):
    """The packages of a CPU; their counters start anew at a limit."""

    name = "RAPL, whole CPU package"
    window_s = 0.5

    def __init__(self, zones: tuple[Path, ...]) -> None:
        self.zones = zones
        self._limits = [_number(zone / "max_energy_range_uj") for zone in zones]
        self._last = self._read()

    @classmethod
    def find(cls, folder: Path = POWERCAP) -> Rapl | None:
        """The counters of this machine; None where there are none, or where they may not be read."""
        zones = tuple(sorted(zone for zone in folder.glob("intel-rapl:*") if zone.name.count(":") == 1))
        try:
            return cls(zones) if zones else None
        except (OSError, ValueError):
            return None

    def joules(self) -> float:
        """See `Counter.joules`."""
        now, then = self._read(), self._last
        self._last = now
        steps = zip(now, then, self._limits, strict=True)
        return sum(new - old if new >= old else new - old + limit for new, old, limit in steps) / 1e6

    def _read(self) -> list[int]:
        return [_number(zone / "energy_uj") for zone in self.zones]


class Nvml(Counter):
    """A GPU, by the driver's own library."""

    name = "NVML, whole GPU"
    window_s = 1.5

    def __init__(self, library: Any, handle: Any) -> None:
        self._library, self._handle = library, handle
        self._last = self._read()

    @classmethod
    def find(cls, device: str) -> Nvml | None:
        """The counter of a GPU; None where the driver's library or the counter is not there."""
        library = _nvml()
        if library is None:
            return None
        handle = ctypes.c_void_p()
        found = library.nvmlDeviceGetHandleByUUID(_uuid(device).encode(), ctypes.byref(handle))
        try:
            return cls(library, handle) if found == 0 else None
        except OSError:
            return None

    def joules(self) -> float:
        """See `Counter.joules`."""
        now, then = self._read(), self._last
        self._last = now
        return (now - then) / 1e3

    def _read(self) -> int:
        millijoules = ctypes.c_ulonglong()
        code = self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle, ctypes.byref(millijoules))
        if code != 0:
            raise OSError(f"NVML has no energy counter for this GPU (code {code})")
        return millijoules.value


def counter_of(device: str) -> Counter | None:
    """What counts the energy of a device of this machine; None where nothing does."""
    if device.startswith("cuda"):
        return Nvml.find(device) if torch.cuda.is_available() else None
    return Rapl.find() if device == "cpu" else None


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
    """Wait until the device has done what it was told."""
    if on_gpu(scenario):
        device = torch.device(scenario.device)
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


def _number(path: Path) -> int:
    return int(path.read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def _nvml() -> Any:
    """The driver's library, ready; None where there is none."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    return library if library.nvmlInit_v2() == 0 else None


def _uuid(device: str) -> str:
    """What the driver calls a GPU, whichever of them this process may see."""
    name = str(torch.cuda.get_device_properties(torch.device(device)).uuid)
    return name if name.startswith(("GPU-", "MIG-")) else f"GPU-{name}"
