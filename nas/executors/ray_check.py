"""What the nodes of a Ray cluster are and can do: asked of each of them, before the first task.

for report in reports(["my_project"]): print(report)
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

import ray
from ray._private.state import available_resources_per_node
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from foundation.errors import SettingError
from nas.executors.losses import cause
from nas.executors.ray_code import advice, project_code
from nas.executors.ray_devices import PREFIX
from nas.executors.room import room

SECONDS = 120.0
"""How long a node may take to start a process and import torch."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """A node: its name, what it offers and what of that is free, and what runs on it; or what is wrong."""

    host: str
    offered: Mapping[str, float]
    free: Mapping[str, float]
    software: Mapping[str, str]
    problem: str = ""

    @property
    def devices(self) -> list[str]:
        """The devices that it is."""
        return sorted(name.removeprefix(PREFIX) for name in self.offered if name.startswith(PREFIX))

    def actors(self, threads: int, gpus: float) -> int:
        """How many actors of so many CPUs and such a share of GPUs fit on it."""
        return room([self.offered], threads, gpus)


def reports(modules: Sequence[str] = ()) -> list[Report]:
    """Every node of the cluster that this process is in, and whether it can import these modules."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    asked = [_asked(node["NodeID"], modules) for node in nodes]
    ray.wait(asked, num_returns=len(asked), timeout=SECONDS)
    free = available_resources_per_node()
    return [
        _report(node, free.get(node["NodeID"], {}), answer) for node, answer in zip(nodes, asked, strict=True)
    ]


def require_importable(threads: int, gpus: float) -> None:
    """Raise `SettingError` where a node that would run actors cannot import what they need."""
    for report in reports(list(project_code())):
        if report.problem and report.actors(threads, gpus):
            raise SettingError(f"the node {report.host} cannot run workers: {report.problem}")


def software(modules: Sequence[str]) -> dict[str, str]:
    """The versions here, on a node, where these modules can be imported.

    Raises:
        ImportError: one cannot.
    """
    for name in modules:
        import_module(name)
    packages = {name: version(name) for name in ("nas", "torch", "ray")}
    return {"host": platform.node(), "python": platform.python_version(), **packages}


def _asked(node: str, modules: Sequence[str]) -> Any:
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    ask: Any = ray.remote(num_cpus=0, max_retries=0)(software)
    return ask.options(scheduling_strategy=there).remote(modules)


def _report(node: Mapping[str, Any], free: Mapping[str, float], answer: Any) -> Report:
    told: Mapping[str, str] = {}
    problem = ""
    try:
        told = ray.get(answer, timeout=0.1)
    except ray.exceptions.GetTimeoutError:
        problem = f"no answer within {SECONDS:g} s"
    except ray.exceptions.RayError as error:
        problem = advice(cause(error))
    return Report(
        host=told.get("host", node["NodeManagerHostname"]),
        offered=dict(node["Resources"]),
        free=free,
        software=told,
        problem=problem,
    )
