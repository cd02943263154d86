"""Devices by their torch names: `cpu`, `cuda`, `cuda:0`; what they are, and whether this machine has them.

A device stands at two places: where networks are trained and scored (`Plan.device`), and where they are timed
(`Scenario.device`). A device of a Ray cluster (`Plan.on`) is a machine, see `nas.executors.ray_devices`; on
it, too, the scenario says which of its processors is timed.
"""

from __future__ import annotations

import os
import re

import torch

from foundation.errors import SettingError
from foundation.text import count

TRAINABLE = ("cpu", "cuda")
"""The kinds of devices that networks are trained on."""

TIMEABLE = ("cpu", "cuda")
"""The kinds of devices that networks are timed on."""

PEAKS = {
    "H200": (989e12, 494e12, 67e12),
    "H100 PCIe": (756e12, 378e12, 51e12),
    "H100 NVL": (835e12, 417e12, 60e12),
    "H100": (989e12, 494e12, 67e12),
    "A100": (312e12, 156e12, 19.5e12),
    "L40S": (362e12, 183e12, 91.6e12),
    "L4": (121e12, 60e12, 30.3e12),
    "RTX 4090": (165e12, 82.6e12, 82.6e12),
}
"""FLOPs a second by words of the device's name: dense products in bfloat16 (float32 sums), TF32 and float32,
as the data sheets of NVIDIA have them (halved where these count sparse products)."""

_DEVICE = re.compile(r"(cpu|cuda|mps|xpu|hpu|xla|mtia|meta)(:\d+)?")


def is_device(text: str) -> bool:
    """Whether a text names a device, whatever this machine has."""
    return _DEVICE.fullmatch(text) is not None


def kind_of_device(device: str) -> str:
    """The kind of a device, without its number: `cuda` of `cuda:0`."""
    return device.partition(":")[0]


def on_cuda(device: str) -> bool:
    """Whether a device is an NVIDIA GPU."""
    return kind_of_device(device) == "cuda"


def usable_cpus() -> int:
    """How many CPUs this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def count_here(device: str) -> int:
    """How many processors of a device's kind this process may use: CPUs of its affinity, or visible GPUs."""
    return torch.cuda.device_count() if on_cuda(device) else usable_cpus()


def told_here(device: str) -> str:
    """How many those are, in words: `this process may use 1 of 8 CPUs`."""
    usable = count_here(device)
    if on_cuda(device):
        told = count(usable, "GPU") if usable and torch.cuda.is_available() else "no GPU"
        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        told += "" if shown is None else f" (CUDA_VISIBLE_DEVICES={shown})"
    else:
        there = max(usable, os.cpu_count() or usable)
        told = count(usable, "CPU") if usable == there else f"{usable} of {there} CPUs"
    return f"this process may use {told}"


def check_trainable(device: str) -> None:
    """Raise `SettingError` for what is no device to train on, here or elsewhere."""
    if not is_device(device) or kind_of_device(device) not in TRAINABLE:
        raise SettingError(f"device {device!r}: networks are trained on cpu or cuda, e.g. cuda:0")


def check_timeable(device: str) -> None:
    """Raise `SettingError` for what is no device that networks are timed on, here or elsewhere."""
    if kind_of_device(device) not in TIMEABLE:
        raise SettingError(f"unsupported device {device!r}: latency is measured on cpu and cuda")
    if not is_device(device) or device.startswith("cpu:"):
        why = (
            "all cores of a machine are one device, cpu" if device.startswith("cpu") else "write e.g. cuda:0"
        )
        raise SettingError(f"no device {device!r}: {why}")


def missing_here(device: str) -> str:
    """Why a device cannot be used on this machine; empty where it can."""
    if not on_cuda(device):
        return ""
    index = device.partition(":")[2]
    there = torch.cuda.is_available() and int(index or 0) < count_here(device)
    return "" if there else f"{told_here(device)}, so there is no {device}"


def memory_here() -> int | None:
    """Bytes of main memory of this machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def memory_available() -> int | None:
    """Bytes of main memory that a new process could take now; None where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, ValueError, KeyError, IndexError):
        return memory_here()


def memory_of(device: str) -> int | None:
    """The bytes of memory of a device of this machine; None where that is not known."""
    if on_cuda(device):
        return None if missing_here(device) else int(torch.cuda.get_device_properties(device).total_memory)
    return memory_here() if kind_of_device(device) == "cpu" else None


def require_here(device: str) -> None:
    """Raise `SettingError` unless networks can be trained on this device of this machine."""
    check_trainable(device)
    if missing := missing_here(device):
        raise SettingError(f"device {device}: {missing}")


def peak_of(device: str, precision: str) -> float | None:
    """FLOPs a second of a device of this machine, for products in float32, tf32 or bfloat16.

    None where that is not known.
    """
    if not on_cuda(device) or missing_here(device):
        return None
    name = torch.cuda.get_device_name(device)
    column = ("bfloat16", "tf32", "float32").index(precision)
    return next((peaks[column] for word, peaks in PEAKS.items() if re.search(rf"\b{word}\b", name)), None)
