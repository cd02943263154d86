"""Facts about a latency table for a reader and for the record: its machine, its errors, its warnings."""

from __future__ import annotations

from typing import Any

from hw_profiles.fingerprint import differences, fingerprint
from hw_profiles.latency.table import LatencyTable
from hw_profiles.roofline.roofline import Roofline
from hw_profiles.timing.timings import READINGS
from nas.study.marks import error_words
from nas.study.trial import ROUGH_MARK


def elsewhere(table: LatencyTable) -> str:
    """How the machine of a table differs from this one; empty where it does not."""
    return differences(table.fingerprint, fingerprint(table.scenario))


def warnings_of(table: LatencyTable, on: str | None = None) -> list[str]:
    """What to know about a table, made for the device `on` or for here, before believing it."""
    warnings = []
    if errors := error_words(table.rough):
        warnings.append(
            f"WARNING: this latency table errs on held-out networks, {errors}: what it predicts is marked"
            f" {ROUGH_MARK}"
        )
    if on is not None:
        warnings.append(f"latencies are those of the device {on}: {machine_of(table)}")
    elif difference := elsewhere(table):
        warnings.append(
            f"WARNING: this latency table was measured on another machine than this one: {difference}"
        )
    return warnings


def estimate_fact(table: Roofline) -> dict[str, Any]:
    """That latencies are estimates, and of what, for the record."""
    return {
        "estimate": table.card.name,
        "scenario": str(table.scenario),
        "machine": table.card.title,
        "notes": [f"{table}; an estimate is a lower bound, often by a factor of two or more"],
    }


def table_fact(table: LatencyTable, on: str | None = None) -> dict[str, Any]:
    """The table's error on whole networks that were measured but not used to fit it, for the record.

    That of a device of a cluster, `on`, also has the fingerprint of the machine.
    """
    fact: dict[str, Any] = {
        "seconds": table.provenance.seconds,
        "reference_ms": table.provenance.reference_ms,
        "scenario": str(table.scenario),
        "elsewhere": elsewhere(table),
        "notes": [*warnings_of(table, on), *table.provenance.notes],
        "machine": machine_of(table),
    }
    if on is not None:
        fact |= {"on": on, "fingerprint": table.fingerprint}
    for reading in READINGS:
        accuracy = table.accuracies.get(reading)
        if accuracy is None:
            continue
        held_out = [(p, m) for network, p, m in table.scatter(reading) if network.held_out]
        fact[reading] = {
            "mape": accuracy.mape,
            "tau": accuracy.tau,
            "tau_interval": [accuracy.tau_low, accuracy.tau_high],
            "held_out": [[round(p, 5), round(m, 5)] for p, m in held_out],
        }
    return fact


def machine_of(table: LatencyTable) -> str:
    """The measured machine, for a reader."""
    machine = table.fingerprint
    processor = machine.get("gpu") or f"{machine.get('cpu_model')}, {machine.get('cores')} cores"
    return f"{processor}, torch {machine.get('torch')}"
