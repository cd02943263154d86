"""From measurements to a table that predicts: the correction, its test, and tables put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from foundation.errors import ProfileError
from hw_profiles.fingerprint import differences
from hw_profiles.latency.correction import accuracy, expected_error, fit_correction
from hw_profiles.latency.table import LatencyTable
from hw_profiles.timing.timings import READINGS


def corrected(table: LatencyTable, *, seed: int = 0) -> LatencyTable:
    """The table with its correction fitted on its networks, and tested on those held out."""
    corrections, accuracies = {}, {}
    fitted = [network for network in table.networks if not network.held_out]
    tested = [network for network in table.networks if network.held_out]
    for reading in READINGS:
        line = fit_correction(
            [table.families_ms(network.spec, reading)[0] for network in fitted],
            [len(network.spec.layers) for network in fitted],
            [network.measured[reading].median_ms for network in fitted],
            [network.spec.d_model for network in fitted],
        )
        sums = [table.families_ms(network.spec, reading) for network in tested]
        predicted = [
            line.whole_ms(
                sum(line.factor(family, network.spec.d_model) * ms for family, ms in found.items()),
                len(network.spec.layers),
            )
            for network, (found, _) in zip(tested, sums, strict=True)
        ]
        measured = [network.measured[reading].median_ms for network in tested]
        expected = [expected_error(error) for _, error in sums]
        corrections[reading] = line
        accuracies[reading] = accuracy(predicted, measured, expected, seed=seed)
    return replace(table, corrections=corrections, accuracies=accuracies)


def merged(tables: Sequence[LatencyTable]) -> LatencyTable:
    """One table with what several know; where two know the same, the later one holds.

    Raises:
        ProfileError: no table, or tables of different scenarios, machines or software.
    """
    if not tables:
        raise ProfileError("no tables to put together")
    first = tables[0]
    for other in tables[1:]:
        told = differences(first.scenario.conditions(), other.scenario.conditions()) or differences(
            first.fingerprint, other.fingerprint
        )
        if told:
            raise ProfileError(f"tables of different circumstances must not be mixed: {told}")
    networks = {network.spec: network for table in tables for network in table.networks}
    entries = {part: found for table in tables for part, found in table.entries.items()}
    names = dict.fromkeys(table.space_name for table in tables)
    notes = tuple(dict.fromkeys(note for table in tables for note in table.provenance.notes))
    last = tables[-1]
    return corrected(
        replace(
            last,
            space_name=" + ".join(names),
            entries=entries,
            networks=tuple(networks.values()),
            real_bits=frozenset().union(*(table.real_bits for table in tables)),
            provenance=replace(last.provenance, notes=notes),
        )
    )
