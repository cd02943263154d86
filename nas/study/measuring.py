"""What of a study's networks is to be measured: what its plan trades off, bounds or asks for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hw_profiles.energy import ENERGY_READINGS
from hw_profiles.energy_counters import counter_of
from hw_profiles.timing.timings import READINGS
from nas.serving.figures import FIGURES
from nas.study.facts import TABLES
from nas.study.plan import MEASURABLE, SCENARIO_MARK, Plan
from nas.study.plan_objectives import asked_objectives
from nas.study.study import Study
from nas.study.trial import MEASURED, Trial
from search_spaces.devices import missing_here
from search_spaces.scenario import Scenario

PEAKS = ("peak_bytes", "prefill_peak_bytes", "decode_peak_bytes")
KINDS = dict(zip(MEASURABLE, (READINGS, PEAKS, ENERGY_READINGS, FIGURES), strict=True))
"""What can be measured of a network, and the figures that it gives."""


def kinds_wanted(plan: Plan, scenario: Scenario) -> tuple[str, ...]:
    """What a plan has measured in one of its scenarios."""
    asked = [o for o in asked_objectives(plan) if o.scenario in ("", scenario.name)]
    names = {objective.name.partition(SCENARIO_MARK)[0] for objective in asked}
    return tuple(kind for kind, figures in KINDS.items() if kind in plan.measure or names & set(figures))


def unmeasured(study: Study, trials: Iterable[Trial], scenario: Scenario) -> list[Trial]:
    """Those whose networks lack a figure that is wanted under this scenario."""
    done = _measured_so_far(study)
    wanted = _marks(study, scenario)
    return [trial for trial in trials if any((trial.digest, mark) not in done for mark in wanted.values())]


def left_to_measure(study: Study, trials: Iterable[Trial]) -> list[Trial]:
    """Those that lack a figure which can be measured here."""
    trials = list(trials)
    here = [scenario for scenario in study.plan.scenarios if not out_of_reach(study, scenario)]
    lacking = {t.digest: t for scenario in here for t in unmeasured(study, trials, scenario)}
    return list(lacking.values())


def lacking(study: Study, trials: Iterable[Trial], scenario: Scenario) -> tuple[str, ...]:
    """What is wanted under this scenario, and not known of all of these."""
    done, digests = _measured_so_far(study), [trial.digest for trial in trials]
    marks = _marks(study, scenario).items()
    return tuple(kind for kind, mark in marks if any((digest, mark) not in done for digest in digests))


def _marks(study: Study, scenario: Scenario) -> dict[str, str]:
    """By kind that is wanted, the name of the last figure that measuring it records.

    Energy is wanted where the device counts it, which is known of this machine's only, and what clients of a
    server see where there are arrivals.
    """
    suffix, plan = suffix_of(study, scenario), study.plan
    kinds = [
        kind
        for kind in kinds_wanted(plan, scenario)
        if (kind != "energy" or plan.time_on is not None or counter_of(scenario.device) is not None)
        and (kind != "serving" or scenario.arrivals)
    ]
    return {kind: f"{KINDS[kind][-1]}{suffix}" for kind in kinds}


def _measured_so_far(study: Study) -> set[tuple[str, str]]:
    return {(measurement.digest, measurement.name) for measurement in study.measurements()}


def out_of_reach(study: Study, scenario: Scenario) -> str:
    """Why a study cannot measure under a scenario now; empty where it can, or a device elsewhere may."""
    return "" if study.plan.time_on is not None else unreachable(scenario, fact_of(study, scenario))


def suffix_of(study: Study, scenario: Scenario) -> str:
    """What the names of its measurements end in."""
    return study.plan.under("", scenario) + MEASURED


def fact_of(study: Study, scenario: Scenario) -> dict[str, Any]:
    """What is on record of the scenario's table; empty where there is none."""
    fact: dict[str, Any] = study.facts.get(TABLES, {}).get(scenario.name, {})
    return fact


def unreachable(scenario: Scenario, fact: dict[str, Any]) -> str:
    """Why networks cannot be measured here for a scenario; empty where they can."""
    if fact.get("estimate"):
        return f"latencies are estimates for {fact['machine']}"
    if fact.get("elsewhere"):
        return f"the latency table is of another machine: {fact['elsewhere']}"
    return missing_here(scenario.device)
