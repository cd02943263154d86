"""The members of the front, extracted and measured: latency, peak memory, and energy where it is counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import torch

from hw_profiles.energy import measure_energy
from hw_profiles.measure import measure_networks
from hw_profiles.memory import measure_memory
from nas.objectives.base import AT
from nas.progress import Progress
from nas.store import Measurement
from nas.study import Study
from nas.trial import Trial, Value
from search_spaces.model import Model
from search_spaces.scenario import Scenario

Extract: TypeAlias = Callable[[Study, Trial], Model]

SUFFIX = "_measured"
GROUP = 8
"""Networks timed together, in interleaved rounds."""


def measure_front(study: Study, extracted: Extract, progress: Progress) -> None:
    """Measure every member of the front that was not measured yet, under each of the study's scenarios.

    `extracted` makes the plain model of a trial. Times are held against the calibration of the study's table.
    A scenario whose device is not here is left out, and said so.
    """
    measure_trials(study, study.front(), extracted, progress)


def measure_trials(study: Study, trials: Iterable[Trial], extracted: Extract, progress: Progress) -> None:
    """Measure the networks of these trials, as far as they were not measured yet."""
    trials = list(trials)
    for scenario in study.plan.scenarios:
        suffix = f"{AT}{scenario.name}{SUFFIX}" if study.plan.also else SUFFIX
        known = {m.digest for m in study.measurements() if m.name == f"decode_ms{suffix}"}
        waiting = [trial for trial in trials if trial.digest not in known]
        if not waiting:
            continue
        fact = _fact_of(study, scenario)
        if why := unreachable(scenario, fact):
            progress.say(f"the front is not measured for {scenario}: {why}")
            continue
        with progress.phase("measuring the front", len(waiting)) as phase:
            for start in range(0, len(waiting), GROUP):
                group = waiting[start : start + GROUP]
                models = [extracted(study, trial) for trial in group]
                _measure_group(study, scenario, group, models, (suffix, fact.get("reference_ms")))
                phase.update(start + len(group))


def _fact_of(study: Study, scenario: Scenario) -> dict[str, Any]:
    """What is on record of the scenario's table; older studies had one scenario and one table."""
    facts = study.facts
    old = {} if study.plan.also else facts.get("table", {})
    found: dict[str, Any] = facts.get("tables", {}).get(scenario.name, old)
    return found


def unreachable(scenario: Scenario, fact: dict[str, Any]) -> str:
    """Why networks cannot be measured here for a scenario; empty where they can."""
    if fact.get("estimate"):
        return f"latencies are estimates for {fact['machine']}"
    if fact.get("elsewhere"):
        return f"the latency table is of another machine: {fact['elsewhere']}"
    if scenario.device.startswith("cuda") and not torch.cuda.is_available():
        return f"there is no {scenario.device} here"
    return ""


def _measure_group(
    study: Study,
    scenario: Scenario,
    group: Sequence[Trial],
    models: Sequence[Model],
    how: tuple[str, float | None],
) -> None:
    suffix, reference_ms = how
    found = measure_networks(models, scenario, reference_ms=reference_ms)
    for trial, model, latencies in zip(group, models, found, strict=True):
        values = {
            name: Value(latency.median_ms, latency.standard_error, "measured")
            for name, latency in latencies.items()
        }
        values |= _memory(model, scenario) | _energy(model, scenario)
        rows = [
            Measurement(trial.digest, name + suffix, scenario.to_json(), value, time.time())
            for name, value in values.items()
        ]
        study.store.add_measurements(study.record.id, rows)


def _memory(model: Model, scenario: Scenario) -> dict[str, Value]:
    """Peaks as allocated here: weights of few bits lie in the scenario's dtype where they are emulated."""
    found = measure_memory(model, scenario)
    names = ("peak_bytes", "prefill_peak_bytes", "decode_peak_bytes")
    return {name: Value(float(getattr(found, name)), None, "measured") for name in names}


def _energy(model: Model, scenario: Scenario) -> dict[str, Value]:
    """Joules of a prompt and of a token; nothing where the device does not count them."""
    found = measure_energy(model, scenario)
    return {
        name: Value(energy.median_j, energy.standard_error, f"measured ({energy.counter})")
        for name, energy in (found or {}).items()
    }
