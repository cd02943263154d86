"""Profile a space: time whole networks, then its parts, where it tells most, in the time that is allowed.

Whole networks come first: those that the correction is fitted on, and those held out to test it. Then the
coarse grid of parts (`hw_profiles.latency.selection`), and then, batch by batch, the parts whose
interpolation is least certain, until the error expected of it is small enough or the time is up. A batch is
timed in interleaved rounds (`hw_profiles.timing.measure`); everything is held against one calibration kernel,
so batches compare. Each batch is written to the samples file, if one is given; a profile that was killed goes
on from there, and a later one of another space takes over what it can use.
"""

from __future__ import annotations

import gc
import json
import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from foundation.errors import ProfileError
from hw_profiles.fingerprint import fingerprint
from hw_profiles.latency.assembly import corrected
from hw_profiles.latency.interpolation import Laws
from hw_profiles.latency.parts import Part, part_samples, part_tasks, parts_in, parts_of
from hw_profiles.latency.selection import coarse_grid, expected_errors, most_uncertain, random_specs, usage_in
from hw_profiles.latency.table import LatencyTable, Network, Provenance
from hw_profiles.runtimes.base import check_scenario, runtime_of
from hw_profiles.timing.measure import (
    QUIET_SHARE,
    SETTLED,
    Rounds,
    Task,
    network_tasks,
    rounds_of,
    undisturbed,
    warmed,
)
from hw_profiles.timing.timers import Timer, Timing, check_device, on_gpu
from hw_profiles.timing.timings import READINGS, Latency, SampleLog
from search_spaces.language.serialization import to_plain
from search_spaces.language.space import Space, as_space
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import build
from search_spaces.scenario import Scenario

FITTED, MOST_FITTED, HELD_OUT = 10, 40, 16
"""Whole networks measured to fit the correction (two for each kind, within limits), and to test it."""

TARGET = 0.015
"""The error that interpolation may put networks off by, when a profile is done before its time."""

UNHURRIED = 20.0
"""Seconds from which on a profile takes more networks for a space of many kinds."""

NETWORK_SHARE = 0.3
"""How much of the time whole networks may take."""

NETWORKS_AT_ONCE = 10
"""Whole networks that are built and timed together."""

DRAWS_PER_NETWORK = 30

Progress = Callable[[str, int, int], None]
"""Hears the stage, and how many of how many steps are done."""


@dataclass(frozen=True)
class Effort:
    """How thoroughly a batch is timed: rounds at least and at most, when it has settled, and its size.

    Each part is built so often: on a CPU, where its tensors come to lie changes its time by up to 15 %, so
    few samples of several builds tell more than many of one.
    """

    fewest: int
    most: int
    within: float
    parts: int = 12
    builds: int = 1

    @classmethod
    def of(cls, scenario: Scenario) -> Effort:
        """A GPU repeats within a tenth of a percent, a shared CPU within several."""
        if on_gpu(scenario):
            return cls(fewest=3, most=9, within=0.005)
        return cls(fewest=4, most=8, within=0.04, builds=2)


@dataclass
class Session:
    """A profile in the making."""

    scenario: Scenario
    effort: Effort
    log: SampleLog
    seed: int
    timer: Timer | None
    progress: Progress
    started: float
    seconds: float
    networks: int = 1
    batch_seconds: float = 0.0
    rounds: int = 0

    @property
    def used(self) -> float:
        """Seconds so far, those of earlier attempts included."""
        return time.monotonic() - self.started + float(self.log.known.get("seconds", 0.0))

    @property
    def left(self) -> float:
        """Seconds that remain."""
        return self.seconds - self.used

    def measure_all(self, specs: Sequence[Decoder]) -> None:
        """Time all whole networks, some at once."""
        self.networks = len(specs)
        for start in range(0, len(specs), NETWORKS_AT_ONCE):
            self.progress("timing networks", start, len(specs))
            self.measure_networks(specs[start : start + NETWORKS_AT_ONCE])

    def measure_networks(self, specs: Sequence[Decoder]) -> None:
        """Time some whole networks together, as far as they are not known yet."""
        waiting = {key: spec for spec in specs if (key := network_key(spec)) not in self.log.known}
        if not waiting:
            return
        seconds = NETWORK_SHARE * self.seconds * len(waiting) / self.networks
        tasks = {
            f"{key} {reading}": task
            for key, spec in waiting.items()
            for reading, task in network_tasks(
                build(spec, seed=self.seed, device=self.scenario.device), self.scenario, seed=self.seed
            ).items()
        }
        rounds = self._timed(tasks, 2 * self.effort.most, seconds)
        for key in waiting:
            self.log.add(key, {r: _samples(rounds, f"{key} {r}") for r in READINGS})

    def measure_parts(self, parts: Sequence[Part]) -> None:
        """Time one batch of parts, as far as they are not known yet."""
        waiting = {key: part for part in parts if (key := part_key(part)) not in self.log.known}
        if not waiting:
            return
        began = time.monotonic()
        builds = range(self.effort.builds)
        tasks = {
            f"{key} {build} {name}": task
            for build in builds
            for key, part in waiting.items()
            for name, task in part_tasks(part, self.scenario, seed=self.seed + build).items()
        }
        rounds = self._timed(tasks, self.effort.most, self.left)
        for key in waiting:
            own, around = _pooled([_of(rounds.ratios, f"{key} {build}") for build in builds])
            walls, _ = _pooled([_of(rounds.walls, f"{key} {build}") for build in builds])
            value = {r: {"ratios": _round(own[r]), "walls": _round(walls[r])} for r in own}
            self.log.add(key, {**value, "around": around})
        self.batch_seconds = max(self.batch_seconds, time.monotonic() - began)

    def _timed(self, tasks: Mapping[str, Task], most: int, seconds: float) -> Rounds:
        gc.collect()  # models of the batch before; the collector is off while timing
        rounds = warmed(rounds_of(tasks, self.scenario, timer=self.timer, seed=self.seed), self.scenario)
        rounds.take_until(self.effort.fewest, most, self.effort.within, seconds)
        number = sum(key.startswith("calibration") for key in self.log.known)
        if rounds.divide:
            self.log.add(f"calibration/{number}", [_round(pair) for pair in rounds.calibration])
        self.log.add("seconds", self.used)
        self.started = time.monotonic()  # what came before is in the log now
        self.rounds = max(self.rounds, rounds.done)
        if told := rounds.disturbances():
            self.log.add(f"disturbed/{len(self.seen)}", told)
        return rounds

    @property
    def seen(self) -> list[str]:
        """What disturbed the batches that were disturbed, those of earlier attempts included."""
        return [told for key, told in self.log.known.items() if key.startswith("disturbed/")]

    def reference(self) -> Timing:
        """The calibration kernel's time on the quiet machine, over all batches."""
        known = self.log.known.items()
        pairs = [pair for key, batch in known if key.startswith("calibration") for pair in batch]
        if not pairs:
            return Timing(1.0, 1.0)
        rank = int(QUIET_SHARE * len(pairs))
        return Timing(*(sorted(column)[rank] for column in zip(*pairs, strict=True)))

    def latencies(self, key: str) -> dict[str, Latency]:
        """What is known of one thing."""
        reference, value = self.reference(), self.log.known[key]
        found = {}
        for reading in READINGS:
            if reading in value:
                samples, walls = value[reading]["ratios"], value[reading]["walls"]
                found[reading] = Latency(
                    tuple(s * reference.ms for s in samples), tuple(w * reference.wall_ms for w in walls)
                ).rounded()
        return found

    def entries(self, parts: Sequence[Part]) -> dict[Part, dict[str, Latency]]:
        """What is known of those parts that were measured."""
        return {p: self.latencies(key) for p in parts if (key := part_key(p)) in self.log.known}


def network_key(spec: Decoder) -> str:
    """What a network is called in a samples file."""
    return "network/" + json.dumps(to_plain(spec), sort_keys=True)


def part_key(part: Part) -> str:
    """What a part is called in a samples file."""
    return "part/" + json.dumps(part.to_plain(), sort_keys=True)


def _samples(rounds: Rounds, key: str) -> dict[str, list[float]]:
    return {"ratios": _round(rounds.ratios[key]), "walls": _round(rounds.walls[key])}


def _of(timed: Mapping[str, list[float]], key: str) -> dict[str, list[float]]:
    return {name[len(key) + 1 :]: found for name, found in timed.items() if name.startswith(f"{key} ")}


def _pooled(timed: Sequence[dict[str, list[float]]]) -> tuple[dict[str, list[float]], dict[str, float]]:
    """A part's own samples over all its builds by reading, and the overhead around it, their mean."""
    found = [part_samples(each) for each in timed]
    own = {r: [sample for samples, _ in found for sample in samples[r]] for r in found[0][0]}
    around = {r: sum(over[r] for _, over in found) / len(found) for r in found[0][1]}
    return own, around


def _round(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def profile_space(
    space: Space | Any,
    scenario: Scenario,
    *,
    seed: int = 0,
    seconds: float = 45.0,
    target: float = TARGET,
    progress: Progress | None = None,
    partial: Path | None = None,
    output: Path | None = None,
    keep_partial: bool = False,
    timer: Timer | None = None,
) -> LatencyTable:
    """Measure the latency table of a space in about `seconds`, or less where `target` is met before.

    However short the time, the networks, what stands around the layers, and a few parts of every kind of
    block are measured, so that every network of the space can be predicted; what was left out is noted.
    Samples are kept in `partial` until the table is written to `output`; with `keep_partial` longer.

    Raises:
        SettingError: the scenario has no runtime that can run it.
        ProfileError: no finite `seconds`, no space of `Decoder`, no such device, the device stayed busy, or
            `partial` is a file of something else, of another machine, other software or another scenario.
        SpaceError: no network of the space is allowed.
    """
    _check(scenario, seconds)
    space, machine = as_space(space), fingerprint(scenario)
    SampleLog(partial, scenario, machine)  # complains before anybody waits for the device
    real = runtime_of(scenario).kernels(scenario)
    parts = parts_in(space, real)
    fitted, held_out = _counts(parts, seconds)
    networks = random_networks(space, seed, fitted + held_out)
    with undisturbed(scenario):
        log = SampleLog(partial, scenario, machine)  # with what another profile measured meanwhile
        session = Session(
            scenario, Effort.of(scenario), log, seed, timer, progress or _silent, time.monotonic(), seconds
        )
        session.measure_all(networks)
        notes = _measure_parts(session, parts, usage_in(space, real, seed), target)
    fitted = min(fitted, len(networks) * fitted // (fitted + held_out))
    table = LatencyTable(
        space_name=space.name,
        space_digest=space.digest,
        scenario=scenario,
        fingerprint=machine,
        entries=session.entries([*parts, *_positions(session, parts)]),
        networks=tuple(
            Network(spec, i >= fitted, session.latencies(network_key(spec)))
            for i, spec in enumerate(networks)
        ),
        provenance=_provenance(session, (*notes, *_notes(session, len(networks), fitted, held_out))),
        real_bits=real,
    )
    table = marked(corrected(table, seed=seed), session.seen)
    if output is not None:
        table.save(output)
    if not keep_partial:
        log.remove()
    return table


def _check(scenario: Scenario, seconds: float) -> None:
    """Raise what can be raised before anything is measured."""
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ProfileError(f"a profile takes a number of seconds, got {seconds}")
    check_scenario(scenario)
    check_device(scenario)


def _measure_parts(
    session: Session, parts: Sequence[Part], usage: Mapping[Part, float], target: float
) -> tuple[str, ...]:
    """The coarse grid, then what is least certain; returns what a reader should know."""
    least, more = coarse_grid(parts, usage, session.scenario, session.seed)
    for grid in (least, more):
        for batch in _batches(grid, session.effort.parts):
            if grid is least or session.left > session.batch_seconds:
                session.measure_parts(batch)
                session.progress("timing parts", _permille(session), 1000)
    error, spent = _refine(session, parts, usage, target)
    known = sum(part_key(part) in session.log.known for part in parts)
    notes = [f"{known} of {len(parts)} parts were measured, the others are interpolated"]
    if known == len(parts):
        notes = []
    elif spent and error > target:
        notes.append(f"the time was up when interpolation was expected to be off by {100 * error:.1f} %")
    if session.used > 1.2 * session.seconds:
        notes.append(f"{session.seconds:.0f} s do not suffice: the least took {session.used:.0f} s")
    return tuple(notes)


def _refine(
    session: Session, parts: Sequence[Part], usage: Mapping[Part, float], target: float
) -> tuple[float, bool]:
    """Measure where interpolation is least certain; the error then expected, and whether time ran out."""
    while True:
        entries = session.entries([*parts, *_positions(session, parts)])
        if all(part in entries for part in parts):
            return 0.0, False
        laws = Laws(entries, session.scenario)
        error, shares = expected_errors(parts, usage, laws, entries)
        batch = most_uncertain(shares, session.effort.parts)
        spent = session.left <= session.batch_seconds
        if error <= target or not batch or spent:
            return error, spent
        session.measure_parts(batch)
        session.progress("timing parts", _permille(session), 1000)


def _positions(session: Session, parts: Sequence[Part]) -> list[Part]:
    """Parts that were also timed at other positions."""
    heads = {part_key(part)[:-1] for part in parts if part.block is not None}
    moved = []
    for key in session.log.known:
        if key.startswith("part/") and '"position"' in key:
            part = Part.from_plain(json.loads(key.removeprefix("part/")))
            if part_key(replace(part, position=None))[:-1] in heads:
                moved.append(part)
    return moved


def _batches(parts: Sequence[Part], size: int) -> Iterator[list[Part]]:
    for start in range(0, len(parts), size):
        yield list(parts[start : start + size])


def _permille(session: Session) -> int:
    return min(999, int(1000 * session.used / max(session.seconds, 1e-9)))


def _counts(parts: Sequence[Part], seconds: float) -> tuple[int, int]:
    """How many networks to fit on, and to hold out."""
    kinds = len({part.kind for part in parts if part.block is not None})
    return max(FITTED, min(MOST_FITTED, 2 * kinds if seconds >= UNHURRIED else 0)), HELD_OUT


def random_networks(space: Space, seed: int, count: int = FITTED + HELD_OUT) -> tuple[Decoder, ...]:
    """Random networks of which no two are made of the same parts; fewer where the space has no more."""
    dice = Random(f"{seed}/networks")
    found: dict[tuple[str, ...], Decoder] = {}
    for spec in random_specs(space, dice, DRAWS_PER_NETWORK * count):
        found.setdefault(tuple(sorted(map(str, parts_of(spec)))), spec)
        if len(found) == count:
            break
    return tuple(found.values())


def marked(table: LatencyTable, seen: Sequence[str]) -> LatencyTable:
    """The table with a mark on what did not settle."""
    why = seen[-1] if seen else "nothing was seen to disturb it"
    loose = [0, 0]

    def mark(found: Latency) -> Latency:
        loose[1] += 1
        if found.uncertainty <= 2 * SETTLED:
            return found
        loose[0] += 1
        return replace(found, unsettled=f"90 % interval {100 * found.uncertainty:.0f} %: {why}")

    entries = {part: {r: mark(f) for r, f in measured.items()} for part, measured in table.entries.items()}
    networks = tuple(
        replace(network, measured={r: mark(f) for r, f in network.measured.items()})
        for network in table.networks
    )
    if not loose[0]:
        return table
    note = f"{loose[0]} of {loose[1]} latencies did not settle: {why}"
    provenance = replace(table.provenance, notes=(*table.provenance.notes, note))
    return replace(table, entries=entries, networks=networks, provenance=provenance)


def _provenance(session: Session, notes: tuple[str, ...]) -> Provenance:
    reference = session.reference()
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        rounds=session.rounds,
        seconds=round(session.used, 1),
        reference_ms=float(f"{reference.ms:.5g}"),
        reference_wall_ms=float(f"{reference.wall_ms:.5g}"),
        overheads=_overheads(session, reference.ms),
        software={"numpy": np.__version__, "kernel": platform.release()},
        notes=notes,
    )


def _overheads(session: Session, reference_ms: float) -> dict[str, dict[str, float]]:
    """Milliseconds around a half layer, by width and reading: medians over the parts."""
    found: dict[str, dict[str, list[float]]] = {}
    for key, value in session.log.known.items():
        if key.startswith("part/"):
            width = str(json.loads(key.removeprefix("part/"))["d_model"])
            for reading, around in value["around"].items():
                found.setdefault(width, {}).setdefault(reading, []).append(around * reference_ms)
    return {
        width: {r: float(f"{np.median(values):.5g}") for r, values in readings.items()}
        for width, readings in found.items()
    }


def _notes(session: Session, found: int, fitted: int, held_out: int) -> tuple[str, ...]:
    """What else a reader of the table should know."""
    notes = []
    if found - fitted < held_out:
        notes.append(
            f"only {found} different networks were found: {fitted} fit the correction,"
            f" {found - fitted} test it"
        )
    if seen := session.seen:
        notes.append(f"disturbed in {len(seen)} batches, the last time: {seen[-1]}")
    return tuple(notes)


def _silent(stage: str, done: int, total: int) -> None:
    """Report to nobody."""
