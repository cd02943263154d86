"""Profile a space: time all of its parts and some whole networks, in one session.

Parts, the networks that fit the correction and the networks that test it are timed in the same rounds (see
`hw_profiles.measure`), so the neighbours slow all three alike. The first round tells how many fit into the
time allowed. After each round everything known is written to the `partial` file, if one is given; a profile
that was killed goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from hw_profiles.correction import accuracy, fit_correction
from hw_profiles.fingerprint import Fingerprint, fingerprint
from hw_profiles.measure import READINGS, Latency, Rounds, Task, Timer, network_tasks, quiet, rounds_of
from hw_profiles.parts import Part, part_tasks, parts_in, parts_of
from hw_profiles.table import LatencyTable, Network, Provenance, read_plain, write_whole
from search_spaces.decoder import Decoder
from search_spaces.errors import ProfileError
from search_spaces.model import build
from search_spaces.scenario import Scenario
from search_spaces.serialise import to_plain
from search_spaces.space import Space, as_space

FITTED, HELD_OUT = 8, 12
"""Whole networks measured to fit the correction, and to test it."""

FEWEST, MOST = 11, 101
"""Rounds that a profile takes at least, and at most."""

DRAWS_PER_NETWORK = 30

UNDISTURBED = 0.9
"""The share of its core below which a profile notes that others had the rest."""

PARTIAL = "nas latency table, unfinished"

Progress = Callable[[str, int, int], None]
"""Hears the stage, and how many of how many steps are done."""


@dataclass(frozen=True)
class Work:
    """What is to be timed."""

    parts: tuple[Part, ...]
    networks: tuple[Decoder, ...]
    fitted: int

    def digest(self, scenario: Scenario, machine: Fingerprint, seed: int) -> str:
        """Names the work and the circumstances: rounds of one digest may be put together."""
        parts = [part.to_plain() for part in self.parts]
        plain = [parts, [to_plain(spec) for spec in self.networks], scenario.to_json(), machine, seed]
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

    def tasks(self, scenario: Scenario, seed: int, progress: Progress) -> dict[str, Task]:
        """Everything to time, by the key of its samples."""
        total = len(self.parts) + len(self.networks)
        tasks: dict[str, Task] = {}
        for i, part in enumerate(self.parts):
            tasks |= _keyed(f"part/{i}", part_tasks(part, scenario, seed=seed))
            progress("building", i + 1, total)
        for i, spec in enumerate(self.networks):
            tasks |= _keyed(f"network/{i}", network_tasks(build(spec, seed=seed), scenario, seed=seed))
            progress("building", len(self.parts) + i + 1, total)
        return tasks


def _keyed(prefix: str, tasks: dict[str, Task]) -> dict[str, Task]:
    return {f"{prefix}/{reading}": task for reading, task in tasks.items()}


def profile_space(
    space: Space | Any,
    scenario: Scenario,
    *,
    seed: int = 0,
    seconds: float = 45.0,
    progress: Progress | None = None,
    partial: Path | None = None,
    timer: Timer | None = None,
) -> LatencyTable:
    """Measure the latency table of a space in about `seconds`.

    Where the time does not suffice for `FEWEST` rounds it takes longer, and the table notes it.

    Raises:
        ProfileError: no space of `Decoder`, no such device, or `partial` is a file of something else.
        SpaceError: no network of the space is allowed.
    """
    space, machine, started = as_space(space), fingerprint(scenario), time.monotonic()
    progress = progress or _silent
    parts, networks = parts_in(space), random_networks(space, seed)
    work = Work(parts, networks, _fitted(len(networks)))
    with quiet(scenario.threads), torch.no_grad():
        session = rounds_of(work.tasks(scenario, seed, progress), scenario, timer=timer, seed=seed)
        log = _Log(partial, work.digest(scenario, machine, seed))
        spent, cpu_before, wall_before = log.restore(session), time.thread_time(), time.monotonic()
        used = _take_rounds(session, log, started - spent, seconds, progress)
        share = (time.thread_time() - cpu_before) / (time.monotonic() - wall_before)
    table = LatencyTable(
        space_name=space.name,
        space_digest=space.digest,
        scenario=scenario,
        fingerprint=machine,
        entries={part: _latencies(session, f"part/{i}") for i, part in enumerate(work.parts)},
        networks=tuple(
            Network(spec, i >= work.fitted, _latencies(session, f"network/{i}"))
            for i, spec in enumerate(networks)
        ),
        provenance=_provenance(session, used, _notes(session, used, seconds, work, share)),
    )
    log.remove()
    return corrected(table, seed=seed)


def corrected(table: LatencyTable, *, seed: int = 0) -> LatencyTable:
    """The table with its correction fitted on its networks, and tested on those held out."""
    corrections, accuracies = {}, {}
    fitted = [network for network in table.networks if not network.held_out]
    tested = [network for network in table.networks if network.held_out]
    sums = {network.spec: table.parts_ms(network.spec) for network in table.networks}
    for reading in READINGS:
        line = fit_correction(
            [sums[network.spec][reading] for network in fitted],
            [len(network.spec.layers) for network in fitted],
            [network.measured[reading].median_ms for network in fitted],
        )
        predicted = [line.whole_ms(sums[n.spec][reading], len(n.spec.layers)) for n in tested]
        measured = [network.measured[reading].median_ms for network in tested]
        corrections[reading] = line
        accuracies[reading] = accuracy(predicted, measured, seed=seed)
    return replace(table, corrections=corrections, accuracies=accuracies)


def random_networks(space: Space, seed: int, count: int = FITTED + HELD_OUT) -> tuple[Decoder, ...]:
    """Random networks of which no two are made of the same parts; fewer where the space has no more."""
    dice = Random(f"{seed}/networks")
    found: dict[tuple[str, ...], Decoder] = {}
    for _ in range(DRAWS_PER_NETWORK * count):
        _, spec = space.propose_with_spec(lambda path, labels: dice.choice(labels))
        found.setdefault(tuple(sorted(map(str, parts_of(spec)))), spec)
        if len(found) == count:
            break
    return tuple(found.values())


def _fitted(networks: int) -> int:
    """How many of the networks the correction is fitted on."""
    return min(FITTED, networks * FITTED // (FITTED + HELD_OUT))


def _take_rounds(session: Rounds, log: _Log, started: float, seconds: float, progress: Progress) -> float:
    """Rounds until the time is up; returns the seconds used, those of an earlier attempt included."""
    session.warm_up()
    now, last = time.monotonic(), 0.0
    while session.done < FEWEST or (session.done < MOST and now - started + last < seconds):
        before = now
        session.take_round()
        now = time.monotonic()
        last = now - before
        log.write(session, now - started)
        fit = session.done + int((started + seconds - now) / max(last, 1e-9))
        progress("timing", session.done, max(FEWEST, min(MOST, fit), session.done))
    return now - started


def _latencies(session: Rounds, prefix: str) -> dict[str, Latency]:
    return {reading: session.latency(f"{prefix}/{reading}").rounded() for reading in READINGS}


def _provenance(session: Rounds, used: float, notes: tuple[str, ...]) -> Provenance:
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        rounds=session.done,
        seconds=round(used, 1),
        reference_ms=float(f"{session.reference_ms:.5g}"),
        software={"numpy": np.__version__, "kernel": platform.release()},
        notes=notes,
    )


def _notes(session: Rounds, used: float, allowed: float, work: Work, share: float) -> tuple[str, ...]:
    """What a reader of the table should know; `share` is how much of the core's time this thread had."""
    notes = []
    if session.done <= FEWEST and used > allowed:
        notes.append(f"{allowed:.0f} s do not suffice: {FEWEST} rounds took {used:.0f} s")
    if len(work.networks) < FITTED + HELD_OUT:
        notes.append(
            f"only {len(work.networks)} different networks were found: {work.fitted} fit the correction,"
            f" {len(work.networks) - work.fitted} test it"
        )
    if share < UNDISTURBED and session.calibrate is not None:
        notes.append(f"the machine was busy: the profiler had {100 * share:.0f} % of its core")
    return tuple(notes)


class _Log:
    """The unfinished profile on disk."""

    def __init__(self, path: Path | None, digest: str) -> None:
        self.path, self.digest = path, digest

    def restore(self, session: Rounds) -> float:
        """Fill in the rounds of an earlier attempt at the same work; returns the seconds it had spent."""
        if self.path is None or not self.path.exists():
            return 0.0
        plain = read_plain(self.path)
        if not isinstance(plain, dict) or plain.get("format") != PARTIAL:
            raise ProfileError(f"{self.path} is no unfinished profile; name another file")
        if plain["digest"] != self.digest:  # another space, scenario or machine: begin afresh
            return 0.0
        session.ratios = plain["ratios"]
        session.calibration = plain["calibration"]
        return float(plain["seconds"])

    def write(self, session: Rounds, seconds: float) -> None:
        """Keep what is known."""
        if self.path is None:
            return
        plain = {
            "format": PARTIAL,
            "digest": self.digest,
            "seconds": seconds,
            "calibration": session.calibration,
            "ratios": session.ratios,
        }
        write_whole(self.path, json.dumps(plain))

    def remove(self) -> None:
        """Forget it: the profile is finished."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _silent(stage: str, done: int, total: int) -> None:
    """Report to nobody."""
