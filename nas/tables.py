"""The study's latency table: loaded where it is there, measured where it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hw_profiles.profiler import profile_space
from hw_profiles.table import LatencyTable
from nas.progress import Progress
from nas.stages import add_fact
from nas.study import Study
from search_spaces.errors import ProfileError

TABLE, PARTIAL = "table.json", "table.partial.json"


def table_for(study: Study, progress: Progress) -> LatencyTable:
    """The table of the study's space under its scenario, on this machine.

    Raises:
        ProfileError: a given table is of another machine, scenario or space.
    """
    plan, path = study.plan, study.folder / TABLE
    if plan.table is not None:
        table = LatencyTable.load(Path(plan.table))
        _check(table, study, plan.table)
    elif path.exists() and (known := LatencyTable.load(path)).covers(study.space):
        table = known
    else:
        table = _measure(study, progress)
        table.save(path)
        (study.folder / PARTIAL).unlink(missing_ok=True)
    if "table" not in study.facts:
        add_fact(study, "table", table_fact(table))
    return table


def _measure(study: Study, progress: Progress) -> LatencyTable:
    with progress.phase("measuring latency", 100) as phase:
        return profile_space(
            study.space,
            study.plan.scenario,
            seed=study.plan.seed,
            seconds=study.plan.profile_seconds,
            progress=lambda what, done, total: phase.update(100 * done // max(total, 1), what),
            partial=study.folder / PARTIAL,
        )


def _check(table: LatencyTable, study: Study, path: str) -> None:
    if table.scenario != study.plan.scenario:
        raise ProfileError(f"{path} was measured for {table.scenario}, not for {study.plan.scenario}")
    if not table.covers(study.space):
        raise ProfileError(f"{path} lacks blocks of this space: measure one with `nas profile`")


def table_fact(table: LatencyTable) -> dict[str, Any]:
    """The table's error on whole networks that were measured but not used to fit it, for the record."""
    fact: dict[str, Any] = {
        "seconds": table.provenance.seconds,
        "reference_ms": table.provenance.reference_ms,
        "notes": list(table.provenance.notes),
        "machine": _machine(table),
    }
    for reading, found in table.accuracies.items():
        held_out = [(p, m) for network, p, m in table.scatter(reading) if network.held_out]
        fact[reading] = {
            "mape": found.mape,
            "tau": found.tau,
            "tau_interval": [found.tau_low, found.tau_high],
            "held_out": [[round(p, 5), round(m, 5)] for p, m in held_out],
        }
    return fact


def _machine(table: LatencyTable) -> str:
    """The measured machine, for a reader."""
    machine = table.fingerprint
    processor = machine.get("gpu") or f"{machine.get('cpu_model')}, {machine.get('cores')} cores"
    return f"{processor}, torch {machine.get('torch')}"
