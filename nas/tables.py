"""The study's latency tables: given, or measured here; or, where a study asks for it, estimates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hw_profiles.cards import card_named
from hw_profiles.correction import TRUSTED_MAPE
from hw_profiles.fingerprint import differences, fingerprint
from hw_profiles.profiler import profile_space
from hw_profiles.roofline import Roofline
from hw_profiles.samples import READINGS
from hw_profiles.table import LatencyTable
from nas.library import is_imported
from nas.objectives.base import Predictor
from nas.plan import Plan
from nas.progress import Progress
from nas.stages import add_fact
from nas.study import Study
from search_spaces.errors import ProfileError
from search_spaces.scenario import Scenario


def table_for(study: Study, scenario: Scenario, progress: Progress) -> Predictor:
    """What predicts latency in one of the study's scenarios: the given table, a measured one, an estimate.

    Raises:
        ProfileError: a given table is of another machine, scenario or space, or the table errs too much.
    """
    table = _table(study, scenario, progress)
    if isinstance(table, LatencyTable):
        _require_trust(table, study.plan)
        for warning in warnings_of(table):
            progress.say(warning)
    else:
        progress.say(str(table))
    _record(study, scenario, table)
    return table


def check_tables(plan: Plan) -> None:
    """Raise at once where a given table or card cannot be used under the plan's scenarios."""
    for path in plan.tables:
        table = load_given(path)
        if table.scenario not in plan.scenarios:
            asked = "; ".join(map(str, plan.scenarios))
            raise ProfileError(f"{path} was measured for {table.scenario}, not for {asked}")
        _require_trust(table, plan)
    if plan.estimate is not None:
        for scenario in plan.scenarios:
            Roofline(card_named(plan.estimate), scenario)


def load_given(path: str) -> LatencyTable:
    """A table that a user names; one of another machine only if it was imported.

    Raises:
        ProfileError: it cannot be used.
    """
    table = LatencyTable.load(Path(path), allow_other_machine=True)
    told = elsewhere(table)
    if told and not is_imported(table):
        raise ProfileError(
            f"{path}: profiled on another machine: {told}; profile again here, or, to search for that"
            f" machine, first: nas profile import {path}"
        )
    return table


def elsewhere(table: LatencyTable) -> str:
    """How the machine of a table differs from this one; empty where it does not."""
    return differences(table.fingerprint, fingerprint(table.scenario))


def rough_readings(table: LatencyTable) -> dict[str, float]:
    """The readings in which a table errs by more than 10 % on held-out networks, with their error."""
    mapes = {reading: found.mape for reading, found in table.accuracies.items()}
    return {reading: mape for reading, mape in mapes.items() if mape is not None and mape > TRUSTED_MAPE}


def _table(study: Study, scenario: Scenario, progress: Progress) -> Predictor:
    plan, name = study.plan, f"table.{scenario.name}" if study.plan.also else "table"
    for source in plan.tables:
        given = load_given(source)
        if given.scenario == scenario:
            if not given.covers(study.space):
                raise ProfileError(f"{source} lacks blocks of this space: measure one with `nas profile`")
            return given
    if plan.estimate is not None:
        return Roofline(card_named(plan.estimate), scenario)
    path = study.folder / f"{name}.json"
    known = LatencyTable.load(path) if path.exists() else None
    if known is not None and known.covers(study.space):
        if plan.allow_rough_table or not _rough_where_needed(known, plan):
            return known
        progress.say(f"{path} errs too much: measuring again")
    partial = study.folder / f"{name}.partial.json"
    table = _measure(study, scenario, partial, progress)
    table.save(path)
    partial.unlink(missing_ok=True)
    return table


def _measure(study: Study, scenario: Scenario, partial: Path, progress: Progress) -> LatencyTable:
    title = f"measuring latency ({scenario.name})" if study.plan.also else "measuring latency"
    with progress.phase(title, 100) as phase:
        return profile_space(
            study.space,
            scenario,
            seed=study.plan.seed,
            seconds=study.plan.profile_seconds,
            progress=lambda what, done, total: phase.update(100 * done // max(total, 1), what),
            partial=partial,
        )


def _require_trust(table: LatencyTable, plan: Plan) -> None:
    """A table that errs by more than 10 % where the study needs it is used only if that is asked for."""
    told = _rough_where_needed(table, plan)
    if told and not plan.allow_rough_table:
        raise ProfileError(
            f"the latency table for {table.scenario} errs on held-out networks, {told}, more than"
            f" {100 * TRUSTED_MAPE:.0f} %: measure again on a quiet machine, or longer (--profile-seconds),"
            " or accept it with --allow-rough-table"
        )


def _rough_where_needed(table: LatencyTable, plan: Plan) -> str:
    asked = " ".join([*plan.objectives, *plan.constraints])
    return _told({name: mape for name, mape in rough_readings(table).items() if name in asked})


def warnings_of(table: LatencyTable) -> list[str]:
    """What a reader must know of a table before believing its predictions."""
    found = []
    if told := _told(rough_readings(table)):
        found.append(f"WARNING: this latency table errs on held-out networks, {told}")
    if told := elsewhere(table):
        found.append(f"WARNING: this latency table was measured on another machine than this one: {told}")
    return found


def _told(rough: dict[str, float]) -> str:
    return ", ".join(f"{reading} by {100 * mape:.1f} %" for reading, mape in rough.items())


def _record(study: Study, scenario: Scenario, table: Predictor) -> None:
    """Put the table's facts on record: of all scenarios under `tables`, of the first under `table`."""
    facts = study.facts
    if scenario.name in facts.get("tables", {}):
        return
    fact = table_fact(table) if isinstance(table, LatencyTable) else estimate_fact(table)
    add_fact(study, "tables", {**facts.get("tables", {}), scenario.name: fact})
    if "table" not in facts:
        add_fact(study, "table", fact)


def estimate_fact(table: Roofline) -> dict[str, Any]:
    """That latencies are estimates, and of what, for the record."""
    return {
        "estimate": table.card.name,
        "scenario": str(table.scenario),
        "machine": table.card.title,
        "notes": [f"{table}; an estimate is a lower bound, often by a factor of two or more"],
    }


def table_fact(table: LatencyTable) -> dict[str, Any]:
    """The table's error on whole networks that were measured but not used to fit it, for the record."""
    fact: dict[str, Any] = {
        "seconds": table.provenance.seconds,
        "reference_ms": table.provenance.reference_ms,
        "scenario": str(table.scenario),
        "elsewhere": elsewhere(table),
        "notes": [*warnings_of(table), *table.provenance.notes],
        "machine": machine_of(table),
    }
    for reading in READINGS:
        found = table.accuracies.get(reading)
        if found is None:
            continue
        held_out = [(p, m) for network, p, m in table.scatter(reading) if network.held_out]
        fact[reading] = {
            "mape": found.mape,
            "tau": found.tau,
            "tau_interval": [found.tau_low, found.tau_high],
            "held_out": [[round(p, 5), round(m, 5)] for p, m in held_out],
        }
    return fact


def machine_of(table: LatencyTable) -> str:
    """The measured machine, for a reader."""
    machine = table.fingerprint
    processor = machine.get("gpu") or f"{machine.get('cpu_model')}, {machine.get('cores')} cores"
    return f"{processor}, torch {machine.get('torch')}"
