"""Profile a space: time whole networks, then its parts, where it tells most, in the time that is allowed.

Whole networks come first: those that the correction is fitted on, and those held out to test it. Then the
coarse grid of parts (`hw_profiles.latency.selection`), and then, batch by batch, the parts whose
interpolation is least certain, until the error expected of it is small enough or the time is up. A batch is
timed in interleaved rounds (`hw_profiles.timing.measure`); everything is held against one calibration kernel,
so batches compare. Each batch is written to the samples file, if one is given; a profile that was killed goes
on from there, and a later one of another space takes over what it can use. A table that errs by more than
10 % on the networks held out gets more samples where it is least certain (`hw_profiles.latency.retakes`).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial as partial_of
from pathlib import Path
from random import Random
from typing import Any

from foundation.errors import ProfileError
from foundation.text import percent
from hw_profiles.fingerprint import fingerprint
from hw_profiles.latency.assembly import corrected
from hw_profiles.latency.interpolation import Interpolator
from hw_profiles.latency.parts import Part, parts_in, parts_of
from hw_profiles.latency.provenance import notes_about, provenance_of, with_marks
from hw_profiles.latency.reading import check_sample
from hw_profiles.latency.records import MeasuredNetwork
from hw_profiles.latency.retakes import Retakes
from hw_profiles.latency.runnable import legal_parts
from hw_profiles.latency.selection import coarse_grid, expected_errors, most_uncertain, random_specs, usage_in
from hw_profiles.latency.session import (
    FIRST,
    Effort,
    ProfileSession,
    ProgressCallback,
    network_key,
    part_key,
)
from hw_profiles.latency.table import LatencyTable
from hw_profiles.runtimes.base import check_scenario, runtime_of
from hw_profiles.timing.measure import undisturbed
from hw_profiles.timing.rounds import SETTLED
from hw_profiles.timing.sample_log import SampleLog
from hw_profiles.timing.timers import Timer, check_device
from hw_profiles.timing.timings import READINGS
from search_spaces.language.space import Space, as_space
from search_spaces.network.decoder import Decoder
from search_spaces.scenario import Scenario

FITTED_NETWORKS, FITTED_LIMIT, HELD_OUT_NETWORKS = 10, 40, 16
"""Whole networks measured to fit the correction (two for each kind, within limits), and to test it."""

TARGET_ERROR = 0.015
"""The error that interpolation may put networks off by, when a profile is done before its time."""

FULL_SECONDS = 20.0
"""Seconds from which on a profile takes more networks for a space of many kinds."""

DRAWS_PER_NETWORK = 30


def profile_space(
    space: Space | Any,
    scenario: Scenario,
    *,
    seed: int = 0,
    seconds: float = 45.0,
    target: float = TARGET_ERROR,
    progress: ProgressCallback | None = None,
    partial: Path | None = None,
    output: Path | None = None,
    keep_partial: bool = False,
    timer: Timer | None = None,
    settled: float = SETTLED,
    readings: Sequence[str] = READINGS,
) -> LatencyTable:
    """Measure the latency table of a space in about `seconds`, or less where `target` is met before.

    Up to as many seconds more are spent on further samples where the error on held-out networks exceeds 10 %
    in one of the `readings`.

    However short the time, the networks, what stands around the layers, and a few parts of every kind of
    block are measured, so that every network of the space can be predicted; what was left out is noted.
    What has not settled within twice `settled` is marked. Samples are kept in `partial` until the table is
    written to `output`; with `keep_partial` longer.

    Raises:
        SettingError: the scenario has no runtime that can run it.
        ProfileError: no finite `seconds`, no space of `Decoder`, no such device, the device stayed busy, or
            `partial` is a file of something else, of another machine, other software or another scenario.
        SpaceError: no network of the space is allowed.
    """
    _check(scenario, seconds)
    space, machine = as_space(space), fingerprint(scenario)
    SampleLog(partial, scenario, machine, check_sample)  # raises before anybody waits for the device
    kernels = runtime_of(scenario).kernels(scenario)
    progress = progress or _ignore
    parts, illegal = legal_parts(parts_in(space, kernels), scenario, progress, seed=seed)
    usage = usage_in(space, kernels, seed)
    chosen = chosen_networks(space, parts, seconds, seed, illegal)
    with undisturbed(scenario):
        log = SampleLog(
            partial, scenario, machine, check_sample
        )  # with what another profile measured meanwhile
        session = ProfileSession(
            scenario, Effort.of(scenario), log, seed, timer, progress, time.monotonic(), seconds
        )
        if runtime_of(scenario).converts:
            session.needed = len(chosen.specs) + len(coarse_grid(parts, usage, scenario, seed)[0])
        session.measure_all(chosen.specs)
        notes = _measure_parts(session, parts, usage, target)
        made = partial_of(_made, session, space, parts, chosen, seed=seed, illegal=illegal)
        retakes = Retakes(session=session, networks=chosen.specs, parts=parts, usage=usage, readings=readings)
        table, more = retakes.improved(made)
    notes = (*notes, *more, *notes_about(session, len(chosen.specs), chosen.fitted, chosen.held_out))
    provenance = replace(table.provenance, seconds=round(session.used, 1), notes=notes)
    table = with_marks(replace(table, provenance=provenance), session.disturbances_so_far, settled=settled)
    if output is not None:
        table.save(output)
    if not keep_partial:
        log.remove()
    return table


@dataclass(frozen=True)
class ChosenNetworks:
    """Networks to measure: the first `fitted` fit the correction, the others, at best `held_out`, test it."""

    specs: tuple[Decoder, ...]
    fitted: int
    held_out: int

    def measured(self, session: ProfileSession) -> tuple[MeasuredNetwork, ...]:
        """What the session measured of them."""
        return tuple(
            MeasuredNetwork(spec, i >= self.fitted, session.latencies(network_key(spec)))
            for i, spec in enumerate(self.specs)
        )


def _made(
    session: ProfileSession,
    space: Space,
    parts: Sequence[Part],
    chosen: ChosenNetworks,
    *,
    seed: int,
    illegal: Mapping[str, str],
) -> LatencyTable:
    """The table of the samples so far."""
    scenario = session.scenario
    table = LatencyTable(
        space_name=space.name,
        space_digest=space.digest,
        scenario=scenario,
        fingerprint=fingerprint(scenario),
        entries=session.entries([*parts, *_positions(session, parts)]),
        networks=chosen.measured(session),
        provenance=provenance_of(session),
        real_bits=runtime_of(scenario).kernels(scenario),
        illegal=illegal,
    )
    return corrected(table, seed=seed)


def chosen_networks(
    space: Space, parts: Sequence[Part], seconds: float, seed: int, illegal: Mapping[str, str]
) -> ChosenNetworks:
    """Random networks; where the space has too few, as large a share as usual fits the correction."""
    fitted, held_out = _counts(parts, seconds)
    specs = random_networks(space, seed, fitted + held_out, kinds={part.kind for part in parts})
    if illegal and not specs:
        kind, reason = next(iter(illegal.items()))
        raise ProfileError(f"{space.name}: none of its networks can be run; {kind}: {reason}")
    return ChosenNetworks(specs, min(fitted, len(specs) * fitted // (fitted + held_out)), held_out)


def _check(scenario: Scenario, seconds: float) -> None:
    """Raise what can be raised before anything is measured."""
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ProfileError(f"a profile takes a number of seconds, got {seconds}")
    check_scenario(scenario)
    check_device(scenario)
    runtime_of(scenario).check_installed()


def _measure_parts(
    session: ProfileSession, parts: Sequence[Part], usage: Mapping[Part, float], target: float
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
        notes.append(f"time ran out while interpolation was expected to err by {percent(error)}")
    if FIRST not in session.log.known:
        session.log.add(FIRST, session.used)
    if (took := session.log.known[FIRST]) > 1.2 * session.seconds:
        notes.append(f"{session.seconds:.0f} s were too few: what must be measured took {took:.0f} s")
    return tuple(notes)


def _refine(
    session: ProfileSession, parts: Sequence[Part], usage: Mapping[Part, float], target: float
) -> tuple[float, bool]:
    """Measure where interpolation is least certain; the error then expected, and whether time ran out."""
    while True:
        entries = session.entries([*parts, *_positions(session, parts)])
        if all(part in entries for part in parts):
            return 0.0, False
        interpolator = Interpolator(entries, session.scenario)
        error, shares = expected_errors(parts, usage, interpolator, entries)
        batch = most_uncertain(shares, session.effort.parts)
        spent = session.left <= session.batch_seconds
        if error <= target or not batch or spent:
            return error, spent
        session.measure_parts(batch)
        session.progress("timing parts", _permille(session), 1000)


def _positions(session: ProfileSession, parts: Sequence[Part]) -> list[Part]:
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


def _permille(session: ProfileSession) -> int:
    return min(999, int(1000 * session.used / max(session.seconds, 1e-9)))


def _counts(parts: Sequence[Part], seconds: float) -> tuple[int, int]:
    """How many networks to fit on, and to hold out."""
    kinds = len({part.kind for part in parts if part.block is not None})
    return max(
        FITTED_NETWORKS, min(FITTED_LIMIT, 2 * kinds if seconds >= FULL_SECONDS else 0)
    ), HELD_OUT_NETWORKS


def random_networks(
    space: Space,
    seed: int,
    count: int = FITTED_NETWORKS + HELD_OUT_NETWORKS,
    *,
    kinds: Collection[str] | None = None,
) -> tuple[Decoder, ...]:
    """Random networks of which no two are made of the same parts; fewer where the space has no more.

    They have blocks of these `kinds` alone, where some are given.
    """
    dice = Random(f"{seed}/networks")
    found: dict[tuple[str, ...], Decoder] = {}
    for spec in random_specs(space, dice, DRAWS_PER_NETWORK * count):
        parts = parts_of(spec)
        if kinds is None or all(part.kind in kinds for part in parts):
            found.setdefault(tuple(sorted(map(str, parts))), spec)
        if len(found) == count:
            break
    return tuple(found.values())


def _ignore(stage: str, done: int, total: int) -> None:
    """The progress of a profile that nobody follows."""
