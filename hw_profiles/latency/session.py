"""One profile while it is measured: batches of networks and parts, in one log of samples.

A batch is timed in interleaved rounds (`hw_profiles.timing.rounds`), divided by one calibration kernel, so
that batches compare. Each batch is written to the log when it is done.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from foundation.text import duration, rounded
from hw_profiles.latency.parts import Part, part_calls, part_samples
from hw_profiles.runtimes.base import runtime_of
from hw_profiles.timing.measure import network_calls
from hw_profiles.timing.rounds import QUIET_SHARE, Rounds, TimedCall, rounds_of, warmed
from hw_profiles.timing.sample_log import SampleLog
from hw_profiles.timing.timers import Timer, Timing, on_gpu
from hw_profiles.timing.timings import READINGS, Latency
from search_spaces.language.serialization import to_plain
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import build
from search_spaces.scenario import Scenario

NETWORK_SHARE = 0.3
"""How much of the time whole networks may take."""

NETWORKS_AT_ONCE = 10
"""Whole networks that are built and timed together."""

FIRST = "first"
"""The key of the seconds until all that must be measured was, before anything was measured again."""

T = TypeVar("T")
ProgressCallback = Callable[[str, int, int], None]
"""Called with the stage, and how many of how many steps are done."""


@dataclass(frozen=True)
class Effort:
    """How thoroughly a batch is timed: rounds at least and at most, when it has settled, and its size.

    Each part is built so often: on a CPU, where its tensors come to lie changes its time by up to 15 %, so
    few samples of several builds tell more than many of one.
    """

    fewest: int
    most: int
    within: float
    parts: int = 12
    builds: int = 1

    @classmethod
    def of(cls, scenario: Scenario) -> Effort:
        """A GPU repeats within a tenth of a percent, a shared CPU within several."""
        if on_gpu(scenario):
            return cls(fewest=3, most=9, within=0.005)
        return cls(fewest=4, most=8, within=0.04, builds=2)


@dataclass
class ProfileSession:
    """A profile that is being measured."""

    scenario: Scenario
    effort: Effort
    log: SampleLog
    seed: int
    timer: Timer | None
    progress: ProgressCallback
    started: float
    seconds: float
    networks: int = 1
    batch_seconds: float = 0.0
    rounds: int = 0
    needed: int = 0
    """Networks and parts that are prepared in any case, where that is a conversion."""

    prepared: int = 0
    preparing_seconds: float = 0.0

    @property
    def used(self) -> float:
        """Seconds so far, those of earlier attempts included."""
        return time.monotonic() - self.started + float(self.log.known.get("seconds", 0.0))

    @property
    def left(self) -> float:
        """Seconds that remain."""
        return self.seconds - self.used

    def measure_all(self, specs: Sequence[Decoder]) -> None:
        """Time all whole networks, some at once."""
        self.networks = len(specs)
        for start in range(0, len(specs), NETWORKS_AT_ONCE):
            self.progress("timing networks", start, len(specs))
            self.measure_networks(specs[start : start + NETWORKS_AT_ONCE])

    def measure_networks(self, specs: Sequence[Decoder]) -> None:
        """Time some whole networks together, as far as they are not known yet."""
        self.retake_networks([spec for spec in specs if network_key(spec) not in self.log.known])

    def retake_networks(self, specs: Sequence[Decoder]) -> None:
        """Time some whole networks together; the samples join those that are known."""
        waiting = {network_key(spec): spec for spec in specs}
        if not waiting:
            return
        seconds = NETWORK_SHARE * self.seconds * len(waiting) / self.networks
        with self._preparing():
            calls = {
                f"{key} {reading}": call
                for key, spec in self._each(waiting)
                for reading, call in network_calls(
                    build(spec, seed=self.seed, device=self.scenario.device), self.scenario, seed=self.seed
                ).items()
            }
        rounds = self._timed(calls, 2 * self.effort.most, seconds)
        for key in waiting:
            self._keep(key, {r: _samples(rounds, f"{key} {r}") for r in READINGS})

    def measure_parts(self, parts: Sequence[Part]) -> None:
        """Time one batch of parts, as far as they are not known yet."""
        self.retake_parts([part for part in parts if part_key(part) not in self.log.known])

    def retake_parts(self, parts: Sequence[Part]) -> None:
        """Time one batch of parts, each built anew; the samples join those that are known."""
        waiting = {part_key(part): part for part in parts}
        if not waiting:
            return
        began, builds = time.monotonic(), range(self.effort.builds)
        with self._preparing() as converts:
            calls = {
                f"{key} {build} {name}": call
                for build in builds
                for key, part in (waiting.items() if build else self._each(waiting))
                for name, call in part_calls(
                    part, self.scenario, seed=self.seed + (0 if converts else build)
                ).items()
            }
        began = time.monotonic() if converts else began
        rounds = self._timed(calls, self.effort.most, self.left)
        for key in waiting:
            own, around = _pooled([_of(rounds.ratios, f"{key} {build}") for build in builds])
            walls, _ = _pooled([_of(rounds.walls, f"{key} {build}") for build in builds])
            value = {r: {"ratios": _round(own[r]), "walls": _round(walls[r])} for r in own}
            self._keep(key, {**value, "around": around})
        self.batch_seconds = max(self.batch_seconds, time.monotonic() - began)

    @contextmanager
    def _preparing(self) -> Iterator[bool]:
        """Inside, models are prepared; where that is a conversion its time does not count, as it is kept.

        Says whether models are converted: then each build is of the same weights, so that one is enough.
        """
        began, converts = time.monotonic(), runtime_of(self.scenario).converts
        yield converts
        if converts:
            self.started += time.monotonic() - began

    def _each(self, waiting: Mapping[str, T]) -> Iterator[tuple[str, T]]:
        """These things in turn; where each is converted, the progress says what all of that will take."""
        for key, thing in waiting.items():
            began = time.monotonic()
            yield key, thing
            if not runtime_of(self.scenario).converts:
                continue
            self.preparing_seconds += time.monotonic() - began
            self.prepared += 1
            total = max(self.needed, self.prepared)
            left = (total - self.prepared) * self.preparing_seconds / self.prepared + max(0.0, self.left)
            text = f"converting for {self.scenario.engine}, {duration(left)} left at most"
            self.progress(text, self.prepared, total)

    def _keep(self, key: str, value: dict[str, Any]) -> None:
        """Add samples of one thing to the log, to those that are known."""
        self.log.add(key, _joined(self.log.known[key], value) if key in self.log.known else value)

    def _timed(self, calls: Mapping[str, TimedCall], most: int, seconds: float) -> Rounds:
        gc.collect()  # models of the batch before; the collector is off while timing
        rounds = warmed(rounds_of(calls, self.scenario, timer=self.timer, seed=self.seed), self.scenario)
        rounds.take_until(self.effort.fewest, most, self.effort.within, seconds)
        number = sum(key.startswith("calibration") for key in self.log.known)
        if rounds.divide:
            self.log.add(f"calibration/{number}", [_round(pair) for pair in rounds.calibration])
        self.log.add("seconds", self.used)
        self.started = time.monotonic()  # what came before is in the log now
        self.rounds = max(self.rounds, rounds.done)
        if disturbances := rounds.disturbances():
            self.log.add(f"disturbed/{len(self.disturbances_so_far)}", disturbances)
        return rounds

    @property
    def disturbances_so_far(self) -> list[str]:
        """What disturbed the batches that were disturbed, those of earlier attempts included."""
        return [what for key, what in self.log.known.items() if key.startswith("disturbed/")]

    def reference(self) -> Timing:
        """The calibration kernel's time on the quiet machine, over all batches."""
        known = self.log.known.items()
        pairs = [pair for key, batch in known if key.startswith("calibration") for pair in batch]
        if not pairs:
            return Timing(1.0, 1.0)
        rank = int(QUIET_SHARE * len(pairs))
        return Timing(*(sorted(column)[rank] for column in zip(*pairs, strict=True)))

    def latencies(self, key: str) -> dict[str, Latency]:
        """What is known of one thing."""
        reference, value = self.reference(), self.log.known[key]
        found = {}
        for reading in READINGS:
            if reading in value:
                samples, walls = value[reading]["ratios"], value[reading]["walls"]
                found[reading] = Latency(
                    tuple(s * reference.ms for s in samples), tuple(w * reference.wall_ms for w in walls)
                ).rounded()
        return found

    def entries(self, parts: Sequence[Part]) -> dict[Part, dict[str, Latency]]:
        """What is known of those parts that were measured."""
        return {p: self.latencies(key) for p in parts if (key := part_key(p)) in self.log.known}


def network_key(spec: Decoder) -> str:
    """What a network is called in a samples file."""
    return "network/" + json.dumps(to_plain(spec), sort_keys=True)


def part_key(part: Part) -> str:
    """What a part is called in a samples file."""
    return "part/" + json.dumps(part.to_plain(), sort_keys=True)


def _samples(rounds: Rounds, key: str) -> dict[str, list[float]]:
    return {"ratios": _round(rounds.ratios[key]), "walls": _round(rounds.walls[key])}


def _joined(known: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """All samples of one thing by reading; the overhead around a part is the mean over its samples."""
    joined: dict[str, Any] = {
        r: {clock: [*known[r][clock], *new[r][clock]] for clock in ("ratios", "walls")}
        for r in READINGS
        if r in new
    }
    if "around" in new:
        joined["around"] = {
            r: _round([known["around"][r] * (1 - share) + new["around"][r] * share])[0]
            for r in new["around"]
            for share in [len(new[r]["ratios"]) / len(joined[r]["ratios"])]
        }
    return joined


def _of(timed: Mapping[str, list[float]], key: str) -> dict[str, list[float]]:
    return {name[len(key) + 1 :]: found for name, found in timed.items() if name.startswith(f"{key} ")}


def _pooled(timed: Sequence[dict[str, list[float]]]) -> tuple[dict[str, list[float]], dict[str, float]]:
    """A part's own samples over all its builds by reading, and the overhead around it, their mean."""
    found = [part_samples(each) for each in timed]
    own = {r: [sample for samples, _ in found for sample in samples[r]] for r in found[0][0]}
    around = {r: sum(over[r] for _, over in found) / len(found) for r in found[0][1]}
    return own, around


def _round(values: Sequence[float]) -> list[float]:
    return [rounded(value, 5) for value in values]
