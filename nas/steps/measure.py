"""The fifth step: the front is extracted and measured: latency, peak memory, energy where it is counted.

What is measured is what the study trades off, bounds, or asks for besides (`measure` of its plan): energy
alone takes ten seconds a network, because its counters step slowly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from foundation.errors import ProfileError, UnknownName
from foundation.files import write_atomically
from hw_profiles.energy import measure_energy
from hw_profiles.fingerprint import differences, fingerprint
from hw_profiles.latency.session import ProgressCallback
from hw_profiles.memory.prediction import measure_memory
from hw_profiles.timing.measure import TOGETHER, measure_networks
from hw_profiles.timing.timings import Latency
from nas.progress import Progress
from nas.serving.load import serve
from nas.steps.base import Context, Step, steps
from nas.steps.corpus import opened_task
from nas.store import Measurement
from nas.study.export import best_weights
from nas.study.measuring import (
    KINDS,
    PEAKS,
    fact_of,
    kinds_wanted,
    lacking,
    out_of_reach,
    suffix_of,
    unmeasured,
)
from nas.study.plan import Plan
from nas.study.plan_objectives import quality_of
from nas.study.study import Study
from nas.study.trial import ROUGH, Trial, Value
from search_spaces.network.model import Model
from search_spaces.network.model_files import load_model, save_model
from search_spaces.scenario import Scenario

Extract: TypeAlias = Callable[[Study, Trial], Model]


@steps.add
class Measure(Step):
    """Wanted where networks are trained, so that there is something to extract, and something to measure."""

    name = "measure"
    needs = ("search",)

    def wanted(self, plan: Plan) -> bool:
        """Whether the study has weights, and asks for what is measured."""
        asked = any(kinds_wanted(plan, scenario) for scenario in plan.scenarios)
        return asked and quality_of(plan) is not None

    def done(self, context: Context) -> bool:
        """Whether every member of the front was measured under every scenario."""
        study = context.study
        front = study.predicted_front()
        return not any(unmeasured(study, front, scenario) for scenario in context.plan.scenarios)

    def run(self, context: Context) -> None:
        """Measure the members of the front that were not measured yet."""
        measure_all(context, context.study.predicted_front())


def measure_all(context: Context, trials: Iterable[Trial], *, what: str = "the front") -> None:
    """Measure networks of a running study with the best weights that it has for them."""
    measure_trials(
        context.study,
        trials,
        lambda study, trial: best_weights(study, trial, opened_task(context))[0],
        context.progress,
        address=context.workers.address,
        what=what,
    )


def measure_trials(
    study: Study,
    trials: Iterable[Trial],
    extracted: Extract,
    progress: Progress,
    *,
    address: str | None = None,
    what: str = "the front",
) -> None:
    """Measure the networks of these trials that were not measured yet, under each of the study's scenarios.

    `extracted` makes the plain model of a trial. Times are compared with the calibration of the study's
    table. Where they do not settle, trying to ends with the plan's `profile_seconds`, shared by all networks.
    A plan that names a device has them measured there, in the Ray cluster at `address`. A scenario
    whose device is not here, or was lost, is left out, and the reason is reported.
    """
    trials = list(trials)
    for scenario in study.plan.scenarios:
        waiting, suffix = unmeasured(study, trials, scenario), suffix_of(study, scenario)
        if not waiting:
            continue
        fact = fact_of(study, scenario)
        if why := out_of_reach(study, scenario):
            progress.say(f"skipped measuring {what} for {scenario}: {why}")
            continue
        testbed = Testbed(
            scenario,
            fact.get("reference_ms"),
            study.plan.time_on,
            address,
            machine=fact.get("fingerprint"),
            seconds_each=study.plan.profile_seconds / len(waiting),
            kinds=lacking(study, waiting, scenario),
            what=what,
        )
        try:
            _measure(study, waiting, testbed, extracted=extracted, suffix=suffix, progress=progress)
        except (ProfileError, UnknownName) as error:
            if testbed.on is None:
                raise
            progress.say(f"skipped measuring {what} for {scenario}: {error}")


@dataclass(frozen=True)
class Testbed:
    """Where networks are timed: here, or `on` a device, which must be the machine of the study's table.

    Each may take `seconds_each` to settle. `kinds` (of `KINDS`) are measured.
    """

    scenario: Scenario
    reference_ms: float | None = None
    on: str | None = None
    address: str | None = None
    machine: Mapping[str, Any] | None = None
    seconds_each: float = math.inf
    kinds: tuple[str, ...] = tuple(KINDS)
    what: str = "the front"

    @property
    def title(self) -> str:
        """The heading of the progress."""
        return f"measuring {self.what}" + ("" if self.on is None else f" on {self.on}")

    def measure(
        self, models: Sequence[Model], on_progress: ProgressCallback | None = None
    ) -> list[dict[str, Value]]:
        """The figures of each network by name; `on_progress` is called with what a device does meanwhile.

        Raises:
            ProfileError: the device cannot be timed, stayed busy, was lost, or is another machine by now.
        """
        if self.on is None:
            return measured(
                models, self.scenario, self.reference_ms, seconds_each=self.seconds_each, kinds=self.kinds
            )
        from nas.executors.ray_devices import run_on  # Ray takes seconds to import

        about = {
            "scenario": asdict(self.scenario),
            "reference_ms": self.reference_ms,
            "machine": self.machine,
            "seconds_each": self.seconds_each,
            "kinds": list(self.kinds),
        }
        packed = list(map(packed_model, models))
        networks = run_on(self.on, measured_there, packed, about, address=self.address, progress=on_progress)
        return [{name: Value.from_json(value) for name, value in figures.items()} for figures in networks]


def measured_there(
    packed: Sequence[Mapping[str, bytes]], about: Mapping[str, Any], on_progress: ProgressCallback
) -> list[dict[str, Any]]:
    """Measure, on a device, the networks that a study elsewhere sent as exported models; plain values.

    Raises:
        ProfileError: this is not the machine of the study's table.
    """
    scenario = Scenario(**about["scenario"])
    if about["machine"] and (changes := differences(about["machine"], fingerprint(scenario))):
        raise ProfileError(f"this is not the machine of the latency table: {changes}")
    on_progress(f"measuring {len(packed)} networks", 0, len(packed))
    networks = measured(
        list(map(unpacked_model, packed)),
        scenario,
        about["reference_ms"],
        seconds_each=about["seconds_each"],
        kinds=tuple(about["kinds"]),
    )
    return [{name: value.to_json() for name, value in figures.items()} for figures in networks]


def packed_model(model: Model) -> dict[str, bytes]:
    """An exported model as the bytes of its files by name."""
    with TemporaryDirectory() as folder:
        return {path.name: path.read_bytes() for path in save_model(model, folder).iterdir()}


def unpacked_model(packed: Mapping[str, bytes]) -> Model:
    """The model that `packed_model` packed."""
    with TemporaryDirectory() as folder:
        for name, content in packed.items():
            write_atomically(Path(folder, name), content)
        return load_model(folder)


def measured(
    models: Sequence[Model],
    scenario: Scenario,
    reference_ms: float | None,
    *,
    seconds_each: float = math.inf,
    kinds: Sequence[str] = tuple(KINDS),
) -> list[dict[str, Value]]:
    """What is asked for of each network on this machine: latency, peak memory, energy where it is counted."""
    rows: list[dict[str, Value]] = [{} for _ in models]
    if "latency" in kinds:
        seconds = seconds_each * len(models)
        found = measure_networks(models, scenario, reference_ms=reference_ms, seconds=seconds)
        for row, latencies in zip(rows, found, strict=True):
            row.update({name: _latency(latency) for name, latency in latencies.items()})
    for row, model in zip(rows, models, strict=True):
        row.update(_memory(model, scenario) if "memory" in kinds else {})
        row.update(_energy(model, scenario) if "energy" in kinds else {})
        row.update(_served(model, scenario) if "serving" in kinds and scenario.arrivals else {})
    return rows


def _measure(
    study: Study,
    waiting: Sequence[Trial],
    testbed: Testbed,
    *,
    extracted: Extract,
    suffix: str,
    progress: Progress,
) -> None:
    """Measure networks, group by group, and record the values."""
    with progress.bar(testbed.title, len(waiting)) as bar:
        for start in range(0, len(waiting), TOGETHER):
            group = waiting[start : start + TOGETHER]
            models = [extracted(study, trial) for trial in group]
            measured_values = testbed.measure(models, lambda what, *_, begun=start: bar.update(begun, what))
            rows = [
                Measurement(trial.digest, name + suffix, testbed.scenario.to_json(), value, time.time())
                for trial, values in zip(group, measured_values, strict=True)
                for name, value in values.items()
            ]
            study.store.add_measurements(study.record.id, rows)
            bar.update(start + len(group))


def _latency(latency: Latency) -> Value:
    """A latency; its source says so where it did not settle because the machine was busy."""
    how = "measured" + (ROUGH if latency.unsettled else "")
    return Value(latency.median_ms, latency.standard_error, how)


def _memory(model: Model, scenario: Scenario) -> dict[str, Value]:
    """Peaks as allocated here: weights of few bits lie in the scenario's dtype where they are emulated."""
    peaks = measure_memory(model, scenario)
    return {name: Value(float(getattr(peaks, name)), None, "measured") for name in PEAKS}


def _served(model: Model, scenario: Scenario) -> dict[str, Value]:
    """What clients see under the scenario's load."""
    figures = serve(deepcopy(model), scenario)  # whose dtype and device are the scenario's
    return {name: Value(value, None, "measured") for name, value in figures.items()}


def _energy(model: Model, scenario: Scenario) -> dict[str, Value]:
    """Joules of a prompt and of a token; nothing where the device does not count them."""
    energies = measure_energy(model, scenario)
    return {
        name: Value(energy.median_j, energy.standard_error, f"measured ({energy.counter})")
        for name, energy in (energies or {}).items()
    }
