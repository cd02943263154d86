"""What a measured number depends on besides the network: the machine and the software that ran it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import torch

from foundation.fields import Field
from hw_profiles.runtimes.base import runtime_of
from search_spaces.ops.dispatch import kernels_on
from search_spaces.scenario import Scenario

Fingerprint: TypeAlias = "dict[str, str | int | None]"

CPU_INFO = Path("/proc/cpuinfo")
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def fingerprint(scenario: Scenario) -> Fingerprint:
    """The machine as far as it can be read, for runs of this scenario; what cannot be read is None.

    Where a runtime calls kernels of our own, they are part of it: their forms take other times.
    """
    runtime = runtime_of(scenario)
    own = runtime.own_kernels and scenario.device.startswith("cuda")
    return {
        "cpu_model": cpu_model(),
        "cores": os.cpu_count(),
        "threads": scenario.threads,
        "gpu": gpu_name(scenario.device),
        "governor": _read(GOVERNOR),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        **runtime.versions(),
        **({"kernels": kernels_on(scenario.device)} if own else {}),
    }


def read_fingerprint(machine: Field) -> Fingerprint:
    """What a machine and its software call themselves.

    Raises:
        FileError: a value is none that a fingerprint has.
    """
    found: Fingerprint = {}
    for name, field in machine.items(most=100):
        if field.plain is None or name in ("cores", "threads"):
            found[name] = None if field.plain is None else field.whole(least=1, most=10**6)
        else:
            found[name] = field.name() if name in ("cpu_model", "gpu") else field.text()
    return found


def differences(then: Mapping[str, object], now: Mapping[str, object]) -> str:
    """The fields in which two machines or scenarios differ, in words; empty where there are none."""
    names = dict.fromkeys((*then, *now))
    told = [
        f"{name} was {then.get(name)!r}, is {now.get(name)!r}"
        for name in names
        if then.get(name) != now.get(name)
    ]
    return "; ".join(told)


def cpu_model() -> str:
    """What the CPU calls itself."""
    for line in (_read(CPU_INFO) or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def gpu_name(device: str) -> str | None:
    """What the GPU calls itself; None where `device` is no GPU or there is none."""
    if not device.startswith("cuda") or not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_name(torch.device(device))


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
