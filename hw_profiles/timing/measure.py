"""Latency of whole networks, measured on this machine; how is told in `hw_profiles.timing.rounds`."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from foundation.errors import ProfileError
from hw_profiles.runtimes.base import Calls, runtime_of
from hw_profiles.timing.locks import exclusive
from hw_profiles.timing.rounds import SETTLED, TimedCall, rounds_of, warmed
from hw_profiles.timing.timers import Timer, quiet
from hw_profiles.timing.timings import READINGS, Latency
from search_spaces.network.model import Model
from search_spaces.scenario import Scenario

STEPS = 3
"""Decode steps in a row that make one sample at least."""

TOGETHER = 8
"""How many networks are best timed in common rounds: enough to compare, few enough to lie in memory."""

ROUNDS = 31
SETTLING_FACTOR = 3
"""Rounds of a measurement of whole networks, and how many times as many it may take to settle."""

_log = logging.getLogger(__name__)


@contextmanager
def undisturbed(scenario: Scenario) -> Iterator[None]:
    """The scenario's device to oneself, its threads set, and no gradients: for timing."""
    with exclusive(scenario.device), quiet(scenario.threads), torch.no_grad():
        yield


def measure_model(
    model: Model,
    scenario: Scenario,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
    reference_ms: float | None = None,
    strict: bool = False,
) -> dict[str, Latency]:
    """Latency of reading the prompt and of decoding one token; see `measure_networks`."""
    return measure_networks(
        [model], scenario, rounds=rounds, seed=seed, reference_ms=reference_ms, strict=strict
    )[0]


def measure_networks(
    models: Sequence[Model],
    scenario: Scenario,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
    reference_ms: float | None = None,
    timer: Timer | None = None,
    strict: bool = False,
    seconds: float = math.inf,
) -> list[dict[str, Latency]]:
    """Latency by reading of several networks, timed together so that they compare fairly.

    Takes `rounds` rounds, and up to three times as many to settle, as long as all of them have taken less
    than `seconds`: on a busy machine most never settle. What has not settled then carries the reason
    (`Latency.unsettled`) and is logged; with `strict` it is refused. Give `table.provenance.reference_ms` to
    hold the networks against the predictions of a table.

    Raises:
        ProfileError: the device cannot be timed, stayed busy, or (`strict`) a latency did not settle.
    """
    with undisturbed(scenario):
        calls = {
            f"{i}/{reading}": call
            for i, model in enumerate(models)
            for reading, call in network_calls(model, scenario, seed=seed).items()
        }
        session = warmed(rounds_of(calls, scenario, timer=timer, seed=seed), scenario)
        session.take_until(rounds, SETTLING_FACTOR * rounds, SETTLED, seconds)
    found = [
        {reading: session.marked(session.latency(f"{i}/{reading}", reference_ms)) for reading in READINGS}
        for i in range(len(models))
    ]
    _report(found, strict)
    return found


def _report(found: Sequence[Mapping[str, Latency]], strict: bool) -> None:
    """Log what has not settled, or refuse it."""
    unsettled = [
        f"network {i}, {reading}: {latency.unsettled}"
        for i, readings in enumerate(found)
        for reading, latency in readings.items()
        if latency.unsettled
    ]
    if unsettled and strict:
        raise ProfileError("; ".join(unsettled))
    if unsettled:
        count = sum(any(latency.unsettled for latency in readings.values()) for readings in found)
        _log.warning(
            "%d of %d networks did not settle while they were timed (%s): their latencies are marked; for"
            " narrower errors time them again on a quiet machine",
            count,
            len(found),
            unsettled[0],
        )


def network_calls(model: Model, scenario: Scenario, *, seed: int = 0) -> dict[str, TimedCall]:
    """What to time of a network, by reading.

    Decoding is timed at one position again and again (`Scenario.decode_position`).
    """
    with torch.no_grad():
        calls = runtime_of(scenario).prepare(model, scenario, seed=seed)
        return {
            "prefill_ms": TimedCall(calls.prefill),
            "decode_ms": decode_call(calls, scenario.decode_position),
        }


def decode_call(calls: Calls, position: int) -> TimedCall:
    """Decoding at a position: some steps in a row, after one that is not timed."""
    return TimedCall(calls.decode(position), primed=True, repeats=STEPS)
