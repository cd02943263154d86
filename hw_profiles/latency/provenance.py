"""What a reader of a table should know: where it comes from, what is missing, what did not settle."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from foundation.text import percent, rounded
from hw_profiles.latency.records import Measured, Provenance
from hw_profiles.latency.session import ProfileSession
from hw_profiles.latency.table import LatencyTable
from hw_profiles.timing.rounds import SETTLED
from hw_profiles.timing.timings import Latency
from search_spaces.ops.dispatch import forms_used


def with_marks(table: LatencyTable, disturbances: Sequence[str], *, settled: float = SETTLED) -> LatencyTable:
    """The table with a mark on what did not settle within twice `settled`, and a note where there is one."""
    reason = disturbances[-1] if disturbances else "nothing was seen to disturb it"

    def marked(latencies: Measured) -> dict[str, Latency]:
        return {
            reading: latency
            if latency.uncertainty <= 2 * settled
            else replace(
                latency, unsettled=f"90 % interval {percent(latency.uncertainty, places=0)}: {reason}"
            )
            for reading, latency in latencies.items()
        }

    entries = {part: marked(measured) for part, measured in table.entries.items()}
    networks = tuple(replace(network, measured=marked(network.measured)) for network in table.networks)
    measured = [*entries.values(), *(network.measured for network in networks)]
    latencies = [latency for each in measured for latency in each.values()]
    unsettled = sum(latency.uncertainty > 2 * settled for latency in latencies)
    if not unsettled:
        return table
    note = f"{unsettled} of {len(latencies)} latencies did not settle: {reason}"
    provenance = replace(table.provenance, notes=(*table.provenance.notes, note))
    return replace(table, entries=entries, networks=networks, provenance=provenance)


def provenance_of(session: ProfileSession) -> Provenance:
    """Where the table of a session comes from; without notes."""
    reference = session.reference()
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        rounds=session.rounds,
        seconds=round(session.used, 1),
        reference_ms=rounded(reference.ms, 5),
        reference_wall_ms=rounded(reference.wall_ms, 5),
        overheads=_overheads(session, reference.ms),
        software={"numpy": np.__version__, "kernel": platform.release()},
    )


def _overheads(session: ProfileSession, reference_ms: float) -> dict[str, dict[str, float]]:
    """Milliseconds around a half layer, by width and reading: medians over the parts."""
    found: dict[str, dict[str, list[float]]] = {}
    for key, value in session.log.known.items():
        if key.startswith("part/"):
            width = str(json.loads(key.removeprefix("part/"))["d_model"])
            for reading, around in value["around"].items():
                found.setdefault(width, {}).setdefault(reading, []).append(around * reference_ms)
    return {
        width: {r: rounded(float(np.median(values)), 5) for r, values in readings.items()}
        for width, readings in found.items()
    }


def notes_about(session: ProfileSession, found: int, fitted: int, held_out: int) -> tuple[str, ...]:
    """What else a reader of the table should know."""
    notes = []
    if found - fitted < held_out:
        notes.append(
            f"only {found} different networks were found: {fitted} fit the correction,"
            f" {found - fitted} test it"
        )
    if disturbances := session.disturbances_so_far:
        notes.append(f"disturbed in {len(disturbances)} batches, the last time: {disturbances[-1]}")
    return *notes, *map(str, forms_used(session.scenario.device))
