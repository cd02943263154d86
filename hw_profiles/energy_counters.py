"""Counters of the energy of a device: RAPL of a CPU, NVML of a GPU.

NVIDIA GPUs count millijoules since the driver was loaded (nvmlDeviceGetTotalEnergyConsumption, from Volta
on); Intel and AMD CPUs count microjoules of a package (/sys/class/powercap), where they may be read.
"""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch

POWERCAP = Path("/sys/class/powercap")


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
