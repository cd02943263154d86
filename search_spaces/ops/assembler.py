"""Which assembler (`ptxas`) makes machine code of Triton's kernels: one that is right about Hopper.

Before CUDA 13.3, `ptxas` makes wrong code of Hopper's asynchronous matrix products (wgmma). Addresses of
tiles in shared memory are computed from registers that nothing wrote (12.8, where a side of a tile is 16 or
32), and inputs in registers are overwritten while they are read (12.9; NVIDIA's notes on CUDA 13.3 name it).
Results are wrong, or the process ends with an illegal memory access, and which of the two depends on what
ran before. Triton up to 3.7 brings such a version for Hopper.

`wrong_on` puts into effect the first assembler that is new enough, for this process and those it starts:
Triton's own, that of the package `nvidia-cuda-nvcc` (extra `gpu`), that of CUDA_HOME, that of the PATH. Where
TRITON_PTXAS_PATH names one, there is no other. `torch.compile` assembles by the same.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import torch

VARIABLE = "TRITON_PTXAS_PATH"
RIGHT = (13, 3)
HOPPER = 9
"""The compute capability, before its point, of the devices that have these products."""

PACKAGE = "nvidia-cuda-nvcc"
_RELEASE = re.compile(r"release (\d+)\.(\d+)")

Version: TypeAlias = tuple[int, int]


@cache
def wrong_on(index: int) -> str:
    """Why matrix products of Triton's kernels cannot be trusted on a CUDA device; empty where they can.

    Asked once per process and device. If the assembler in effect is too old and another is new enough, that
    other one is in effect from then on.
    """
    if torch.cuda.get_device_capability(index)[0] != HOPPER:
        return ""
    for i, path in enumerate(_assemblers()):
        version = version_of(path)
        if version is not None and version >= RIGHT:
            if i > 0:
                os.environ[VARIABLE] = str(path)
            return ""
    return (
        f"ptxas {in_effect() or 'of an unknown version'} makes wrong code of matrix products on this device:"
        f" pip install '{PACKAGE}>={told(RIGHT)}', or let {VARIABLE} name one of CUDA {told(RIGHT)} or newer"
    )


def prepare(device: torch.device | str) -> None:
    """Put the right assembler into effect, if there is one, before something is compiled for a device."""
    device = torch.device(device)
    if device.type == "cuda":
        wrong_on(device.index or 0)


def in_effect() -> str:
    """The version of the assembler that Triton calls now, `13.3`; empty where it cannot be told."""
    path = next(iter(_assemblers()), None)
    version = None if path is None else version_of(path)
    return "" if version is None else told(version)


def told(version: Version) -> str:
    """A version as it is written."""
    return ".".join(map(str, version))


@cache
def version_of(path: Path) -> Version | None:
    """The version of an assembler; None where it does not run or does not tell."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    found = _RELEASE.search(done.stdout)
    return None if found is None else (int(found[1]), int(found[2]))


def _assemblers() -> Iterator[Path]:
    """Those that are there, the one in effect first; only that one where it was named."""
    if named := os.environ.get(VARIABLE):
        yield Path(named)
        return
    for path in _places():
        if os.access(path, os.X_OK):
            yield path


def _places() -> Iterator[Path]:
    for folder in _folders_of("triton"):
        bundled = folder / "backends" / "nvidia" / "bin"
        yield from (bundled / "ptxas", bundled / "ptxas-blackwell")
    for folder in _folders_of("nvidia"):
        yield from sorted(folder.glob("*/bin/ptxas"), reverse=True)
    if home := os.environ.get("CUDA_HOME"):
        yield Path(home) / "bin" / "ptxas"
    if found := shutil.which("ptxas"):
        yield Path(found)


def _folders_of(package: str) -> list[Path]:
    """Where a package lies, without importing it; a namespace lies in several folders."""
    spec = find_spec(package)
    return [Path(each) for each in (spec.submodule_search_locations or ())] if spec is not None else []
