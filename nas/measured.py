"""The members of the front, extracted and timed for real."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TypeAlias

from hw_profiles.measure import measure_networks
from nas.progress import Progress
from nas.store import Measurement
from nas.study import Study
from nas.trial import Trial, Value
from search_spaces.model import Model

Extract: TypeAlias = Callable[[Study, Trial], Model]

SUFFIX = "_measured"
GROUP = 8
"""Networks timed together, in interleaved rounds."""


def measure_front(study: Study, extracted: Extract, progress: Progress) -> None:
    """Time every member of the front that was not timed yet, under the study's scenario.

    `extracted` makes the plain model of a trial. Times are held against the calibration of the study's table.
    """
    measure_trials(study, study.front(), extracted, progress)


def measure_trials(study: Study, trials: Iterable[Trial], extracted: Extract, progress: Progress) -> None:
    """Time the networks of these trials, as far as they were not timed yet."""
    known = {m.digest for m in study.measurements() if m.name.endswith(SUFFIX)}
    waiting = [trial for trial in trials if trial.digest not in known]
    if not waiting:
        return
    scenario = study.plan.scenario
    reference_ms = study.facts.get("table", {}).get("reference_ms")
    with progress.phase("timing the front", len(waiting)) as phase:
        for start in range(0, len(waiting), GROUP):
            group = waiting[start : start + GROUP]
            models = [extracted(study, trial) for trial in group]
            found = measure_networks(models, scenario, reference_ms=reference_ms)
            for trial, latencies in zip(group, found, strict=True):
                study.store.add_measurements(
                    study.record.id,
                    [
                        Measurement(
                            trial.digest,
                            name + SUFFIX,
                            scenario.to_json(),
                            Value(latency.median_ms, latency.standard_error, "measured"),
                            time.time(),
                        )
                        for name, latency in latencies.items()
                    ],
                )
            phase.update(start + len(group))
