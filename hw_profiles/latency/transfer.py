"""A new device's table from that of a similar one and a few dozen measurements.

    table = transfer_table(known, space, scenario)     # a short profile here, the rest carried over
    table = carried_over([a100, h100], short)          # from whichever of these is the more similar

Between two devices the time of a block changes by a factor that depends mostly on its kind:

    log t_here = log t_there + a + a_kind + b (log t_there - mean)

with a, a_kind and b fitted on the blocks that were measured on both, drawn to zero (least squares with a
prior, as few blocks cannot tell them apart). What it errs by is found by leaving out one block at a time. The
most similar device is the one where that error is smallest. A block that is carried over says so, and has
that error; whole networks, measured here, correct the table and test it like any other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from foundation.errors import ProfileError
from foundation.text import percent
from hw_profiles.latency.assembly import corrected
from hw_profiles.latency.parts import Part
from hw_profiles.latency.profiler import profile_space
from hw_profiles.latency.session import ProgressCallback
from hw_profiles.latency.table import LatencyTable
from hw_profiles.timing.timings import READINGS, Latency
from search_spaces.language.space import Space
from search_spaces.scenario import Scenario

SECONDS = 12.0
"""How long the short profile takes, or as long as the least needs."""

KIND_PRIOR, SLOPE_PRIOR, NOISE = 0.3, 0.1, 0.05
"""How far, in logarithms, kinds stray from the common factor, a slope from none, measurements from both."""

LEAST = 4
"""Blocks that must have been measured on both devices."""

LEAST_ERROR = 0.02
CARRIED = "carried over"


@dataclass(frozen=True, kw_only=True)
class Link:
    """How the times of one reading there become times here; `error` is relative, on blocks left out."""

    factor: float
    kinds: Mapping[str, float]
    slope: float
    middle: float
    error: float
    blocks: int

    def here(self, kind: str, ms: float) -> float:
        """Milliseconds here of a block that takes `ms` there."""
        x = math.log(ms)
        return math.exp(x + self.factor + self.kinds.get(kind, 0.0) + self.slope * (x - self.middle))


def transfer_table(
    known: LatencyTable | Sequence[LatencyTable],
    space: Space | Any,
    scenario: Scenario,
    *,
    seed: int = 0,
    seconds: float = SECONDS,
    progress: ProgressCallback | None = None,
    partial: Path | None = None,
    output: Path | None = None,
) -> LatencyTable:
    """A short profile here, and the blocks it leaves out from the most similar of the known tables.

    Samples are kept in `partial` as they come, and a profile that was killed, or found too little in common
    with the known tables, can go on from there. The table is written to `output`, and then they are removed.

    Raises:
        ProfileError: the device cannot be timed, or no known table has enough blocks in common.
    """
    short = profile_space(
        space,
        scenario,
        seed=seed,
        seconds=seconds,
        progress=progress,
        partial=partial,
        keep_partial=True,
        readings=(),  # what is carried over decides how far it errs
    )
    table = carried_over([known] if isinstance(known, LatencyTable) else known, short, seed=seed)
    if output is not None:
        table.save(output)
    if partial is not None:
        partial.unlink(missing_ok=True)
    return table


def carried_over(known: Sequence[LatencyTable], short: LatencyTable, *, seed: int = 0) -> LatencyTable:
    """The short table, and all further blocks of the most similar known one.

    Raises:
        ProfileError: no known table has enough blocks in common with the short one.
    """
    there, links = most_similar(known, short)
    new = {
        part: _carried(part, measured, links, there)
        for part, measured in there.entries.items()
        if part not in short.entries and part.block is not None
    }
    names = ", ".join(f"{reading} {percent(link.error)}" for reading, link in links.items())
    note = (
        f"{len(new)} blocks are {CARRIED} from the table of {machine_name(there)} ({there.scenario}), with an"
        f" error on blocks left out of {names}; {len(short.entries)} were measured here"
    )
    provenance = replace(short.provenance, notes=(*short.provenance.notes, note))
    table = replace(short, entries={**short.entries, **new}, provenance=provenance)
    return corrected(table, seed=seed)


def most_similar(known: Sequence[LatencyTable], short: LatencyTable) -> tuple[LatencyTable, dict[str, Link]]:
    """The known table that tells most about the short one, and how.

    Raises:
        ProfileError: none has enough blocks in common with it.
    """
    found: list[tuple[float, int, LatencyTable, dict[str, Link]]] = []
    for table in known:
        if all(len(_pairs(table, short, reading)) >= LEAST for reading in READINGS):
            links = {reading: fit_link(table, short, reading) for reading in READINGS}
            found.append((sum(link.error for link in links.values()), len(found), table, links))
    if not found:
        raise ProfileError(
            f"no known table shares {LEAST} measured blocks with this one: profile the space whole instead"
        )
    _, _, table, links = min(found, key=lambda entry: entry[:2])
    return table, links


def fit_link(there: LatencyTable, here: LatencyTable, reading: str) -> Link:
    """Fit one reading on the blocks that both tables have measured."""
    pairs = _pairs(there, here, reading)
    errors = [_left_out(pairs, i) for i in range(len(pairs))]
    error = max(LEAST_ERROR, math.sqrt(sum(e * e for e in errors) / len(errors)))
    return replace(_fit(pairs), error=error)


def _pairs(there: LatencyTable, here: LatencyTable, reading: str) -> list[tuple[str, float, float]]:
    """Kind and logarithms of the times there and here, of the blocks that both have measured."""
    return [
        (part.kind, math.log(there.entries[part][reading].median_ms), math.log(found[reading].median_ms))
        for part, found in here.entries.items()
        if part.block is not None and _timed(there.entries.get(part), reading) and _timed(found, reading)
    ]


def _timed(measured: Mapping[str, Latency] | None, reading: str) -> bool:
    return measured is not None and reading in measured and measured[reading].median_ms > 0


def _fit(pairs: Sequence[tuple[str, float, float]]) -> Link:
    """Least squares for the common factor, one term per kind and a slope, with their priors."""
    kinds = sorted({kind for kind, _, _ in pairs})
    x = np.array([there for _, there, _ in pairs])
    y = np.array([here - there for _, there, here in pairs])
    middle = float(x.mean())
    member = np.array([[float(kind == other) for other in kinds] for kind, _, _ in pairs])
    rows = np.column_stack([np.ones(len(pairs)), member, x - middle]) / NOISE
    prior = np.diag([1e-6, *(1 / KIND_PRIOR for _ in kinds), 1 / SLOPE_PRIOR])
    target = np.concatenate([y / NOISE, np.zeros(len(prior))])
    found = np.linalg.lstsq(np.concatenate([rows, prior]), target, rcond=None)[0]
    return Link(
        factor=float(found[0]),
        kinds=dict(zip(kinds, found[1:-1].tolist(), strict=True)),
        slope=float(found[-1]),
        middle=middle,
        error=0.0,
        blocks=len(pairs),
    )


def _left_out(pairs: Sequence[tuple[str, float, float]], i: int) -> float:
    """The error, in logarithms, on one block of a fit that did not see it."""
    kind, there, here = pairs[i]
    link = _fit([*pairs[:i], *pairs[i + 1 :]])
    return math.log(link.here(kind, math.exp(there))) - here


def _carried(
    part: Part, measured: Mapping[str, Latency], links: Mapping[str, Link], there: LatencyTable
) -> dict[str, Latency]:
    """Latencies of a block that was not measured here; four samples as wide as the link errs."""
    found = {}
    for reading, latency in measured.items():
        link = links[reading]
        ms = link.here(part.kind, max(latency.median_ms, 1e-6))
        steps = (-1.0, -1.0, 1.0, 1.0)  # their standard error is the link's error
        samples = tuple(float(f"{ms * (1 + step * link.error):.5g}") for step in steps)
        found[reading] = Latency(samples, (), f"{CARRIED} from {machine_name(there)}, not measured here")
    return found


def machine_name(table: LatencyTable) -> str:
    """The device of a table."""
    machine = table.fingerprint
    return str(machine.get("gpu") or machine.get("cpu_model"))
