"""Devices of a Ray cluster: machines that only time, for whoever asks.

    ray start --address=HEAD:6379 --num-cpus=0 --resources='{"device:jetson": 1}'

A node that was started with a resource `device:NAME` is the device NAME. What is timed there runs in an actor
that holds the resource, so a device works for one study at a time. What goes there and comes back are plain
JSON values (spaces by registered names, tables, figures) and exported models; Ray ships the functions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias

import ray

from foundation.cache import cache_folder
from foundation.errors import NasError, ProfileError, UnknownName
from foundation.wording import argument
from hw_profiles.fingerprint import fingerprint
from hw_profiles.latency.profiler import profile_space
from hw_profiles.latency.session import ProgressCallback
from hw_profiles.latency.table import LatencyTable
from hw_profiles.latency.transfer import transfer_table
from hw_profiles.timing.timings import READINGS
from nas.executors.cluster import ANY_HERE, Kinds, join, own_kinds, register
from nas.executors.losses import cause
from search_spaces.devices import is_device
from search_spaces.language.serialization import from_json, to_json
from search_spaces.language.space import Space
from search_spaces.scenario import Scenario

PREFIX = "device:"
POLL_SECONDS = 5.0

Work: TypeAlias = Callable[..., Any]
"""A function that a device can import: of plain values and, last, a callback for progress."""


@dataclass(frozen=True)
class Device:
    """A device of a cluster: its name, the machines that offer it, and whether one of them is free."""

    name: str
    hosts: tuple[str, ...]
    free: bool

    def __str__(self) -> str:
        return f"{self.name}: {', '.join(self.hosts)}; {'free' if self.free else 'busy'}"


def devices(address: str | None = None) -> dict[str, Device]:
    """The devices of the cluster at `address`, or of the one that this machine is part of, by name.

    Raises:
        SettingError: no cluster answers.
    """
    join(ANY_HERE if address is None else address)
    hosts: dict[str, list[str]] = {}
    for node in ray.nodes():
        offered = node["Resources"] if node["Alive"] else {}
        for resource, amount in offered.items():
            if resource.startswith(PREFIX) and amount >= 1:
                hosts.setdefault(resource.removeprefix(PREFIX), []).append(node["NodeManagerHostname"])
    free = ray.available_resources()
    return {
        name: Device(name, tuple(sorted(names)), free.get(PREFIX + name, 0) >= 1)
        for name, names in sorted(hosts.items())
    }


def require_device(name: str, address: str | None = None) -> Device:
    """The device of this name.

    Raises:
        UnknownName: no node of the cluster has it.
        SettingError: no cluster answers.
    """
    offered = devices(address)
    if name not in offered:
        if is_device(name):
            raise UnknownName(
                f"{name} is a processor, not a device of the Ray cluster: name it in a scenario, e.g."
                f" {argument('scenarios', f'{name},batch=1', option='scenario')}"
            )
        start = f"""ray start --address=... --num-cpus=0 --resources='{{"{PREFIX}{name}": 1}}'"""
        raise UnknownName(
            f"no node of the Ray cluster is the device {name!r}; offered: {', '.join(offered) or 'none'}"
            f" (a node joins as one by: {start})"
        )
    return offered[name]


def run_on(
    name: str, work: Work, *given: Any, address: str | None = None, progress: ProgressCallback | None = None
) -> Any:
    """The result of `work(*given, report)` on a device; `progress` is called here with what it reports there.

    Waits while the device is busy.

    Raises:
        UnknownName: no node of the cluster is this device.
        ProfileError: the device was lost.
        NasError: what `work` raises, with the name of the device.
    """
    progress = progress or _silent
    device = require_device(name, address)
    progress(f"starting on {name}" if device.free else f"waiting for {name}, which is busy", 0, 1)
    make: Any = ray.remote(_Timing)
    actor = make.options(num_cpus=0, max_concurrency=2, resources={PREFIX + name: 1}).remote(own_kinds())
    try:
        return _followed(name, actor, actor.work.remote(work, given), progress)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, NasError):
            raise type(error.cause)(f"on {name}: {error.cause}") from None
        if isinstance(error.cause, ray.exceptions.RayError):  # it never began: another nas is there, or none
            raise _lost(name, cause(error)) from None
        raise
    except ray.exceptions.RayError as error:
        raise _lost(name, cause(error)) from None
    finally:
        ray.kill(actor)


class _Timing:
    """What lives on a device while it works: one thread works, the other reports progress."""

    def __init__(self, kinds: Kinds) -> None:
        register(kinds)
        self._reports: SimpleQueue[tuple[str, int, int]] = SimpleQueue()

    def work(self, work: Work, given: tuple[Any, ...]) -> Any:
        return work(*given, lambda *step: self._reports.put(step))

    def next_report(self) -> tuple[str, int, int]:
        """Waits for the next, asleep: timing is not disturbed."""
        return self._reports.get()


def _followed(name: str, actor: Any, result: Any, progress: ProgressCallback) -> Any:
    report = actor.next_report.remote()
    while True:
        ready, _ = ray.wait([result, report], timeout=POLL_SECONDS)
        if result in ready:
            return ray.get(result)
        if report in ready:
            progress(*ray.get(report))
            report = actor.next_report.remote()
        elif name not in devices():
            raise _lost(name, "its node has left the cluster")


def _lost(name: str, why: str) -> ProfileError:
    return ProfileError(
        f"the device {name} was lost, or could not start: {why}; repeat the command when it is there again"
        " (a profile continues where it stopped)"
    )


def _silent(what: str, done: int, total: int) -> None:
    """Progress that is not shown."""


def profile_on(
    name: str,
    space: Space,
    scenario: Scenario,
    *,
    seed: int,
    seconds: float,
    readings: Sequence[str] = READINGS,
    similar: LatencyTable | None = None,
    address: str | None = None,
    progress: ProgressCallback | None = None,
) -> LatencyTable:
    """Measure the latency table of a space on a device.

    As `profile_space` does, or, where there is the table of a `similar` device, `transfer_table`.

    Samples are kept there until the table is finished, so that a stopped profile is continued.

    Raises:
        UnknownName: no node of the cluster is this device.
        ProfileError: the device was lost, or cannot time the scenario.
    """
    what = {
        "root": to_json(space.root),
        "name": space.name,
        "scenario": asdict(scenario),
        "effort": {"seed": seed, "seconds": seconds},
        "readings": list(readings),
        "similar": None if similar is None else similar.to_plain(),
    }
    plain = run_on(name, profiled, what, space.constraints, address=address, progress=progress)
    return LatencyTable.from_plain(plain, f"table of {name}")


def profiled(
    what: Mapping[str, Any], constraints: tuple[Callable[[Any], bool], ...], report: ProgressCallback
) -> dict[str, Any]:
    """Profile here, on the device, what `profile_on` asks for."""
    space = Space(from_json(what["root"]), constraints=constraints, name=what["name"])
    scenario, effort = Scenario(**what["scenario"]), what["effort"]
    partial = samples_file(space, scenario)
    if what["similar"] is not None:
        similar = LatencyTable.from_plain(what["similar"])
        return transfer_table(similar, space, scenario, progress=report, partial=partial, **effort).to_plain()
    return profile_space(
        space, scenario, readings=what["readings"], progress=report, partial=partial, **effort
    ).to_plain()


def samples_file(space: Space, scenario: Scenario) -> Path:
    """Where a device keeps the samples of an unfinished profile: one file by space, scenario and software."""
    about = [space.digest, scenario.conditions(), fingerprint(scenario)]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / "profiles" / f"{digest}.partial.json"
