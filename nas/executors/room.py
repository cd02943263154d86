"""Room for workers: how many fit on this machine, or on the nodes of a cluster; others would wait in vain."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from math import floor
from pathlib import Path

import torch

from foundation.errors import SettingError
from foundation.wording import argument
from search_spaces.devices import usable_cpus

LONGEST_PATH = 107 - len(
    "/nas-ray-1234567-abcdefgh/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
)
"""Bytes of the path of a folder in which Ray can open its sockets: theirs may have 107."""

ROUNDING = 1e-9
"""Three shares of a third are one."""


def require_room(workers: int | None, threads: int, gpus: float, address: str | None) -> int:
    """How many workers there are room for, at most `workers`; joins the cluster at `address` first.

    A worker needs `threads` CPUs and a share `gpus` of GPUs, all on one node.

    Raises:
        SettingError: there is no room for so many, or for any; or no cluster answers.
    """
    if address is not None or _in_a_cluster():
        from nas.executors import cluster  # Ray takes seconds to import, and most laptops do without

        if address is not None:
            cluster.join(address)
        nodes, where = cluster.resources(), f"the Ray cluster at {cluster.head()} has"
    else:
        folder_of_files()
        nodes, where = [this_machine()], "this process may use"
    most = room(nodes, threads, gpus)
    if 0 < (most if workers is None else workers) <= most:
        return most if workers is None else workers
    cpus, there = (sum(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU"))
    each = argument("threads", threads, option="worker-threads")
    each += f" and {argument('gpu_share', gpus)}" if gpus else ""
    asked = argument("workers", "max" if workers is None else workers)
    raise SettingError(
        f"{asked}: there is room for {most} with {each} each, as {where} {cpus:g} CPUs and {there:g} GPUs"
    )


def room(nodes: Sequence[Mapping[str, float]], threads: int, gpus: float) -> int:
    """How many workers of so many threads and such a share of GPUs fit on nodes with `CPU` and `GPU`."""
    fitting = 0
    for node in nodes:
        by_cpus = floor(node.get("CPU", 0.0) / threads)
        fitting += min(by_cpus, _by_gpus(node.get("GPU", 0.0), gpus)) if gpus else by_cpus
    return fitting


def folder_of_files() -> Path:
    """Where a Ray of one's own keeps its files: `RAY_TMPDIR`, else that of all temporary files, else /tmp.

    Raises:
        SettingError: nothing can be written there, or its path is too long for what Ray puts below it.
    """
    usual = tempfile.gettempdir()
    asked = os.environ.get("RAY_TMPDIR") or (usual if len(os.fsencode(usual)) <= LONGEST_PATH else "/tmp")
    folder = Path(asked).absolute()
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SettingError(
            f"Ray cannot keep its files in {folder}: set RAY_TMPDIR to a folder that can be written"
        )
    if len(os.fsencode(folder)) > LONGEST_PATH:
        raise SettingError(
            f"Ray cannot keep its files in {folder}: its path is too long, set RAY_TMPDIR to another"
        )
    return folder


def this_machine() -> dict[str, float]:
    """The CPUs that this process may use, and the GPUs that torch can."""
    return {"CPU": float(usable_cpus()), "GPU": float(torch.cuda.device_count())}


def _by_gpus(there: float, share: float) -> int:
    """A share below one stays within one GPU."""
    if share > 1:
        return floor(there / share + ROUNDING)
    return floor(there) * floor(1 / share + ROUNDING)


def _in_a_cluster() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()
