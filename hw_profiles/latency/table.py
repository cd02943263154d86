"""Latency tables: what every part of a space costs on one machine, and what whole networks will cost.

    table = profile_space(space, scenario)
    table.predict(spec)["decode_ms"]          # (milliseconds, standard error)
    table.save(path);  LatencyTable.load(path, scenario)

A prediction is the sum of its parts, corrected by a straight line that was fitted on a few whole networks.
Parts that were not measured themselves are interpolated (`hw_profiles.latency.interpolation`). The interval
of a prediction is as wide as it takes to hold 9 in 10 other whole networks, which the fit never saw, and
widened by what one session differs from another. Files are JSON that a person can read, with all samples, and
belong to one machine and one scenario.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from foundation.errors import FileError, IllegalArchitecture, NasError, ProfileError
from foundation.fields import Field
from foundation.files import read_json, write_atomically
from foundation.text import percent
from hw_profiles.fingerprint import Fingerprint, differences, fingerprint
from hw_profiles.latency.correction import BASE_ERROR, NORMAL_REACH, TRUSTED_MAPE, Accuracy, Correction
from hw_profiles.latency.part_times import PartTimes
from hw_profiles.latency.parts import NONE_REAL, Part, Real, around, parts_in, shares
from hw_profiles.latency.reading import table_values
from hw_profiles.latency.records import Measured, MeasuredNetwork, Provenance, measured_to_plain
from hw_profiles.latency.sums import NetworkSums
from hw_profiles.runtimes.base import runtime_of
from hw_profiles.timing.timings import READINGS
from hw_profiles.timing.versions import TIMED_OTHERWISE, VERSION, outdated
from search_spaces.language.serialization import to_plain
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder
from search_spaces.quantization.bits import WEIGHT_BITS
from search_spaces.scenario import Scenario
from search_spaces.spaces import spaces

FORMAT = "nas latency table"

TABLE_BYTES = 6 * 2**20
"""The largest file of a table: some 5,000 parts with all their samples."""

BETWEEN_SESSIONS = {"cpu": 0.03, "cuda": 0.003}
"""How far, relatively, two sessions on one machine differ: what a re-measurement may be off for no fault."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LatencyTable:
    """Measured latencies of parts of a space, under one scenario, on one machine.

    Weights and activations of the bits in `real_bits` run on kernels of their own here; others are emulated:
    they count their bytes and take the time of 16. `illegal` are kinds of blocks that the runtime cannot run,
    by name, with its reason.
    """

    space_name: str
    space_digest: str
    scenario: Scenario
    fingerprint: Fingerprint
    entries: Mapping[Part, Measured]
    networks: tuple[MeasuredNetwork, ...] = ()
    corrections: Mapping[str, Correction] = field(default_factory=dict)
    accuracies: Mapping[str, Accuracy] = field(default_factory=dict)
    provenance: Provenance = field(default_factory=Provenance)
    real_bits: Real = NONE_REAL
    illegal: Mapping[str, str] = field(default_factory=dict)

    def predict(self, spec: Decoder, position: int | None = None) -> dict[str, tuple[float, float]]:
        """Milliseconds and their standard error, by reading; decoding at `position` where one is given.

        The standard error is that of a normal distribution of which 90 % lie within `interval`.

        Raises:
            ProfileError: a part of the network is of a kind, or beyond the sizes, that were measured.
            IllegalArchitecture: the runtime of the scenario cannot run a block of it.
        """
        return self._predicted([spec], position)[0]

    def predict_many(self, specs: Sequence[Decoder]) -> list[dict[str, tuple[float, float]]]:
        """Predictions of many networks; what must be interpolated is so all at once."""
        return self._predicted(specs, None)

    def _predicted(
        self, specs: Sequence[Decoder], position: int | None
    ) -> list[dict[str, tuple[float, float]]]:
        for spec in specs if self.illegal else ():
            self._check_legal(spec)
        sums = self._sums.of(specs, position)
        depths = np.array([len(spec.layers) for spec in specs], dtype=float)
        found: list[dict[str, tuple[float, float]]] = [{} for _ in specs]
        for reading, correction, reach in self._corrections if specs else ():
            ms, off = sums[reading]
            whole = correction.whole_ms(ms, depths)
            expected = np.hypot(BASE_ERROR, np.divide(off, ms, out=np.zeros_like(ms), where=ms > 0))
            errors = whole * np.hypot(reach / NORMAL_REACH * expected, self._between_sessions)
            for each, value, error in zip(found, whole.tolist(), errors.tolist(), strict=True):
                each[reading] = value, error
        return found

    def _check_legal(self, spec: Decoder) -> None:
        """Raise `IllegalArchitecture` for a network that the runtime cannot run."""
        for layer in spec.layers:
            for block in layer.blocks.values():
                if (kind := type(block).__name__) in self.illegal:
                    what = f"engine {self.scenario.engine} cannot run {kind}"
                    raise IllegalArchitecture(f"{what}: {self.illegal[kind]}")

    def interval(self, spec: Decoder) -> dict[str, tuple[float, float]]:
        """Milliseconds between which 9 in 10 measurements of such a network should lie, by reading."""
        return {
            reading: (max(0.0, ms - NORMAL_REACH * error), ms + NORMAL_REACH * error)
            for reading, (ms, error) in self.predict(spec).items()
        }

    def parts_ms(self, spec: Decoder) -> dict[str, float]:
        """The plain sum of the parts, by reading."""
        return {reading: sum(self.families_ms(spec, reading)[0].values()) for reading in READINGS}

    def families_ms(self, spec: Decoder, reading: str) -> tuple[dict[str, float], float]:
        """The plain sums of the parts by family, and the relative standard deviation of their total."""
        amounts = {around(spec, self.real_bits): 1.0}
        for layer in spec.layers:
            for part, share in shares(layer, spec, self.real_bits):
                amounts[part] = amounts.get(part, 0.0) + share
        found: dict[str, float] = {}
        variance = 0.0
        for part, much in amounts.items():
            ms, error = self._part_times.of(part, reading)
            found[part.family] = found.get(part.family, 0.0) + much * ms
            variance += (much * error) ** 2  # the same part is off by the same, wherever it stands
        return found, math.sqrt(variance) / max(sum(found.values()), 1e-12)

    @property
    def trusted(self) -> bool:
        """Whether held-out networks were measured and predicted within 10 % on average, in every reading."""
        mapes = [self.accuracies.get(reading, Accuracy(0)).mape for reading in READINGS]
        return all(mape is not None and mape <= TRUSTED_MAPE for mape in mapes)

    @cached_property
    def rough(self) -> dict[str, float]:
        """The readings whose mean error on held-out networks exceeds 10 %, with that error."""
        mapes = {reading: found.mape for reading, found in self.accuracies.items()}
        return {name: mape for name, mape in mapes.items() if mape is not None and mape > TRUSTED_MAPE}

    @property
    def restless(self) -> int:
        """How many latencies were measured here and did not settle; those carried over are not measured."""
        measured = [*self.entries.values(), *(network.measured for network in self.networks)]
        return sum(bool(f.unsettled and f.wall_ms) for each in measured for f in each.values())

    def covers(self, space: Space) -> bool:
        """Whether every network of the space can be predicted."""
        return not self.missing(space)

    def missing(self, space: Space) -> tuple[Part, ...]:
        """The parts of a space that were not measured, and resemble none that was."""
        parts = parts_in(space, self.real_bits)
        legal = [part for part in parts if part.kind not in self.illegal]
        return tuple(part for part in legal if not self._part_times.covers(part))

    def scatter(self, reading: str) -> Iterator[tuple[MeasuredNetwork, float, float]]:
        """Each measured whole network with its predicted and its measured milliseconds."""
        for network in self.networks:
            yield network, self.predict(network.spec)[reading][0], network.measured[reading].median_ms

    @cached_property
    def _between_sessions(self) -> float:
        return BETWEEN_SESSIONS[self.scenario.device.partition(":")[0]]

    @cached_property
    def _corrections(self) -> list[tuple[str, Correction, float]]:
        found = []
        for reading in READINGS:
            reach = self.accuracies.get(reading, Accuracy(0)).reach
            correction = self.corrections.get(reading, Correction())
            found.append((reading, correction, NORMAL_REACH if reach is None else reach))
        return found

    @cached_property
    def _part_times(self) -> PartTimes:
        title = f"the latency table of {self.space_name} ({self.space_digest})"
        return PartTimes(self.entries, self.scenario, title)

    @cached_property
    def _sums(self) -> NetworkSums:
        return NetworkSums(self.real_bits, self.scenario.context, self.corrected_parts)

    def corrected_parts(self, parts: Sequence[Part]) -> dict[str, list[tuple[float, float]]]:
        """Milliseconds of parts and their standard deviations, times the factors of their families."""
        self._part_times.interpolate(parts)
        corrected: dict[str, list[tuple[float, float]]] = {}
        for reading, correction, _ in self._corrections:
            corrected[reading] = []
            for part in parts:
                moved = part.position is not None and reading == "prefill_ms"
                ms, error = self._part_times.of(replace(part, position=None) if moved else part, reading)
                factor = correction.factor(part.family, part.d_model)
                corrected[reading].append((factor * ms, factor * error))
        return corrected

    def save(self, path: Path) -> None:
        """Write the table as JSON, all of it or nothing."""
        write_atomically(path, _readable(self.to_plain()))

    @classmethod
    def load(
        cls, path: Path, scenario: Scenario | None = None, *, allow_other_machine: bool = False
    ) -> LatencyTable:
        """Read a table and make sure that it speaks of this machine, and of `scenario` where one is given.

        Raises:
            ProfileError: no such file, no such table, another machine, or another scenario.
        """
        try:
            plain = read_json(path, at_most=TABLE_BYTES)
        except FileError as error:
            raise ProfileError(str(error)) from error
        table = cls.from_plain(plain, str(path))
        if scenario is not None and scenario != table.scenario:
            told = differences(table.scenario.conditions(), scenario.conditions())
            raise ProfileError(f"{path}: profiled under another scenario: {told}; profile again")
        if not allow_other_machine:
            table.require_here(str(path))
        return table

    def require_here(self, where: str) -> None:
        """Raise `ProfileError`, which says `where` the table is from, unless it speaks of this machine."""
        if told := differences(self.fingerprint, fingerprint(self.scenario)):
            raise ProfileError(f"{where}: profiled on another machine: {told}; profile again here")

    def to_plain(self) -> dict[str, Any]:
        """Values that JSON can hold."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "space": {"name": self.space_name, "digest": self.space_digest},
            "scenario": self.scenario.to_json(),
            "clock": str(runtime_of(self.scenario).clock(self.scenario)),
            "trusted": self.trusted,
            "weight_bits": {"real": sorted(self.real_bits), "emulated": self.emulated_bits},
            **({"illegal": dict(self.illegal)} if self.illegal else {}),
            "fingerprint": self.fingerprint,
            "provenance": asdict(self.provenance),
            "readings": {
                reading: {
                    "correction": asdict(self.corrections.get(reading, Correction())),
                    "accuracy": asdict(self.accuracies.get(reading, Accuracy(0))),
                }
                for reading in READINGS
            },
            "entries": [
                {"name": str(part), "part": part.to_plain(), **measured_to_plain(measured)}
                for part, measured in self.entries.items()
            ],
            "networks": [self._network_to_plain(network) for network in self.networks],
        }

    def _network_to_plain(self, network: MeasuredNetwork) -> dict[str, Any]:
        predicted: dict[str, dict[str, Any]] = {
            reading: {"ms": ms, "standard_error_ms": error}
            for reading, (ms, error) in self.predict(network.spec).items()
        }
        measured = measured_to_plain(network.measured)
        for name, (low, high) in self.interval(network.spec).items():
            predicted[name]["interval_ms"] = [low, high]
        spec = to_plain(network.spec)
        return {"held_out": network.held_out, "predicted": predicted, **measured, "spec": spec}

    @classmethod
    def from_plain(cls, plain: Any, where: str = "table") -> LatencyTable:
        """The table written by `to_plain`.

        Raises:
            ProfileError: this is no latency table, one of another version or whose times were taken in
                another way, or one with a value that cannot be; the value is named by its place.
        """
        if not isinstance(plain, Mapping):
            raise ProfileError(f"{where}: not a latency table")
        kind, version = plain.get("format"), plain.get("version")
        try:
            if kind != FORMAT or version not in (VERSION, *TIMED_OTHERWISE):
                raise ProfileError(
                    f"expected {FORMAT} of version {VERSION}, got {kind!s:.40} of version {version!s:.20}"
                )
            table = cls(**table_values(Field(plain)))
            if why := outdated(version, table.scenario):
                raise ProfileError(f"a table of before, {why}: make it again with {table._command()}")
        except NasError as error:
            raise ProfileError(f"{where}: {error}") from error
        return table

    def _command(self) -> str:
        """What measures such a table again."""
        name = self.space_name if self.space_name in spaces else "SPACE"
        return f"`nas profile {name} --scenario {self.scenario.written()}`"

    @property
    def emulated_bits(self) -> list[float]:
        """Bits of weights without a kernel of their own in this scenario."""
        return sorted(bits for bits in WEIGHT_BITS if bits < 16 and (bits, 16, "int") not in self.real_bits)

    def _emulation(self) -> str:
        names = ", ".join(f"{bits:g}" for bits in self.emulated_bits)
        told = [f"weights of {names} bits"] if names else []
        told += [] if (8, 8, "float") in self.real_bits else ["float8"]
        if not told:
            return "weights of all bits run on kernels of their own"
        return f"{' and '.join(told)} are emulated in time: they take that of 16, and count their own bytes"

    def __str__(self) -> str:
        lines = [
            f"latency table of {self.space_name} ({self.space_digest}): {len(self.entries)} parts,"
            f" {self.provenance.rounds} rounds in {self.provenance.seconds:.0f} s",
            f"  {self.scenario}; {runtime_of(self.scenario).clock(self.scenario)}",
        ]
        lines += [f"  {reading}: {_accuracy_text(self.accuracies.get(reading))}" for reading in READINGS]
        lines.append(f"  {self._emulation()}")
        lines += [f"  illegal here: {kind}: {reason}" for kind, reason in self.illegal.items()]
        if not self.trusted:
            why = "errs by more than 10 % on" if self.rough else "has no"
            lines.append(f"  not trusted: it {why} held-out networks")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.provenance.notes)])


def _accuracy_text(found: Accuracy | None) -> str:
    if found is None or found.mape is None:
        return "no held-out network was measured"
    text = f"{found.n} held-out networks, mean error {percent(found.mape)}"
    if found.tau is None or found.tau_low is None or found.tau_high is None:
        return text
    return f"{text}, Kendall tau {found.tau:.2f} ({found.tau_low:.2f} to {found.tau_high:.2f})"


def _readable(plain: Any) -> str:
    """JSON with one line per list of numbers."""
    text = json.dumps(plain, indent=1)
    return re.sub(r"\[[\d\s.,e+-]+\]", lambda found: " ".join(found[0].split()), text)
