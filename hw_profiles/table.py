"""Latency tables: what every part of a space costs on one machine, and what whole networks will cost.

    table = profile_space(space, scenario)
    table.predict(spec)["decode_ms"]          # (milliseconds, standard error)
    table.save(path);  LatencyTable.load(path, scenario)

A prediction is the sum of its parts, corrected by a straight line that was fitted on a few whole networks.
Its standard error is the error found on other whole networks, which the fit never saw, and that between one
session and another. Files are JSON that a person can read, with all samples, and belong to one machine and
one scenario.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from hw_profiles.correction import Accuracy, Correction
from hw_profiles.fingerprint import Fingerprint, differences, fingerprint
from hw_profiles.measure import READINGS, Latency, clock_of
from hw_profiles.parts import Part, layer_parts, outer, parts_in
from search_spaces.decoder import Decoder, Layer
from search_spaces.errors import NasError, ProfileError
from search_spaces.scenario import Scenario
from search_spaces.serialise import from_plain, to_plain
from search_spaces.space import Space

FORMAT, VERSION = "nas latency table", 1

BETWEEN_SESSIONS = 0.03
"""How far, relatively, two sessions on one machine differ: what a re-measurement may be off for no fault."""

Measured: TypeAlias = "Mapping[str, Latency]"
"""Latency by reading (`READINGS`)."""

Sums: TypeAlias = "tuple[tuple[float, float], ...]"
"""Per reading, the milliseconds of some parts and their variance."""


@dataclass(frozen=True)
class Network:
    """A random whole network that was measured: to fit the correction, or, `held_out`, to test it."""

    spec: Decoder
    held_out: bool
    measured: Measured


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a table comes from: when, how thoroughly, and what a reader should know."""

    created: str = ""
    rounds: int = 0
    seconds: float = 0.0
    reference_ms: float = 1.0
    software: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class LatencyTable:
    """Measured latencies of the parts of a space, under one scenario, on one machine."""

    space_name: str
    space_digest: str
    scenario: Scenario
    fingerprint: Fingerprint
    entries: Mapping[Part, Measured]
    networks: tuple[Network, ...] = ()
    corrections: Mapping[str, Correction] = field(default_factory=dict)
    accuracies: Mapping[str, Accuracy] = field(default_factory=dict)
    provenance: Provenance = field(default_factory=Provenance)

    def predict(self, spec: Decoder) -> dict[str, tuple[float, float]]:
        """Milliseconds and their standard error, by reading.

        Raises:
            ProfileError: a part of the network was never measured.
        """
        halves = [self._layer(layer, spec.d_model) for layer in spec.layers]
        around = self._sums((outer(spec.vocab, spec.d_model),))
        predicted = {}
        for i, (reading, correction, relative) in enumerate(self._line):
            ms, variance = around[i]
            for sums in halves:
                ms, variance = ms + sums[i][0], variance + sums[i][1]
            whole = correction.whole_ms(ms, len(halves))
            own = correction.scale * correction.scale * variance
            predicted[reading] = whole, math.sqrt(own + (relative * whole) ** 2)
        return predicted

    def parts_ms(self, spec: Decoder) -> dict[str, float]:
        """The plain sum of the parts, by reading."""
        halves = [self._layer(layer, spec.d_model) for layer in spec.layers]
        sums = [self._sums((outer(spec.vocab, spec.d_model),)), *halves]
        return {reading: sum(s[i][0] for s in sums) for i, reading in enumerate(READINGS)}

    def covers(self, space: Space) -> bool:
        """Whether every network of the space can be predicted."""
        return not self.missing(space)

    def missing(self, space: Space) -> tuple[Part, ...]:
        """The parts of a space that were never measured."""
        return tuple(part for part in parts_in(space) if part not in self.entries)

    def scatter(self, reading: str) -> Iterator[tuple[Network, float, float]]:
        """Each measured whole network with its predicted and its measured milliseconds."""
        for network in self.networks:
            yield network, self.predict(network.spec)[reading][0], network.measured[reading].median_ms

    @cached_property
    def _line(self) -> list[tuple[str, Correction, float]]:
        nothing = Accuracy(0)
        return [
            (
                reading,
                self.corrections.get(reading, Correction()),
                math.hypot(self.accuracies.get(reading, nothing).rms or 0.0, BETWEEN_SESSIONS),
            )
            for reading in READINGS
        ]

    @cached_property
    def _known_layers(self) -> dict[tuple[Layer, int], Sums]:
        return {}

    @cached_property
    def _known_parts(self) -> dict[tuple[Part, ...], Sums]:
        return {}

    def _layer(self, layer: Layer, d_model: int) -> Sums:
        known = self._known_layers.get((layer, d_model))
        if known is None:
            known = self._known_layers[layer, d_model] = self._sums(layer_parts(layer, d_model))
        return known

    def _sums(self, parts: tuple[Part, ...]) -> Sums:
        known = self._known_parts.get(parts)
        if known is None:
            measured = [self._entry(part) for part in parts]
            known = self._known_parts[parts] = tuple(
                (
                    sum(entry[reading].median_ms for entry in measured),
                    sum(entry[reading].standard_error ** 2 for entry in measured),
                )
                for reading in READINGS
            )
        return known

    def _entry(self, part: Part) -> Measured:
        try:
            return self.entries[part]
        except KeyError:
            raise ProfileError(
                f"the latency table of {self.space_name} ({self.space_digest}) has no entry for {part};"
                " profile the space that contains it (profile_space, `nas profile`)"
            ) from None

    def save(self, path: Path) -> None:
        """Write the table as JSON, all of it or nothing."""
        write_whole(path, readable(self.to_plain()))

    @classmethod
    def load(
        cls, path: Path, scenario: Scenario | None = None, *, allow_other_machine: bool = False
    ) -> LatencyTable:
        """Read a table and make sure that it speaks of this machine, and of `scenario` where one is given.

        Raises:
            ProfileError: no such file, no such table, another machine, or another scenario.
        """
        table = cls.from_plain(read_plain(path), str(path))
        if scenario is not None and scenario != table.scenario:
            told = differences(table.scenario.to_json(), scenario.to_json())
            raise ProfileError(f"{path}: profiled under another scenario: {told}; profile again")
        told = differences(table.fingerprint, fingerprint(table.scenario))
        if told and not allow_other_machine:
            raise ProfileError(f"{path}: profiled on another machine: {told}; profile again here")
        return table

    def to_plain(self) -> dict[str, Any]:
        """Values that JSON can hold."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "space": {"name": self.space_name, "digest": self.space_digest},
            "scenario": self.scenario.to_json(),
            "clock": clock_of(self.scenario),
            "weight_bits": "emulated",
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
                {"name": str(part), "part": part.to_plain(), **_measured_to_plain(measured)}
                for part, measured in self.entries.items()
            ],
            "networks": [self._network_to_plain(network) for network in self.networks],
        }

    def _network_to_plain(self, network: Network) -> dict[str, Any]:
        predicted = {
            reading: {"ms": ms, "standard_error_ms": error}
            for reading, (ms, error) in self.predict(network.spec).items()
        }
        measured = _measured_to_plain(network.measured)
        spec = to_plain(network.spec)
        return {"held_out": network.held_out, "predicted": predicted, **measured, "spec": spec}

    @classmethod
    def from_plain(cls, plain: Any, where: str = "table") -> LatencyTable:
        """The table written by `to_plain`.

        Raises:
            ProfileError: this is no latency table, or one of another version.
        """
        try:
            found = (plain["format"], plain["version"])
            if found != (FORMAT, VERSION):
                raise ProfileError(f"{where}: expected {FORMAT} of version {VERSION}, got {found}")
            return cls._parsed(plain)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProfileError(f"{where}: not a latency table: {type(error).__name__}: {error}") from error
        except ProfileError:
            raise
        except NasError as error:
            raise ProfileError(f"{where}: {error}") from error

    @classmethod
    def _parsed(cls, plain: Mapping[str, Any]) -> LatencyTable:
        readings, provenance = plain["readings"], dict(plain["provenance"])
        return cls(
            space_name=plain["space"]["name"],
            space_digest=plain["space"]["digest"],
            scenario=Scenario(**plain["scenario"]),
            fingerprint=dict(plain["fingerprint"]),
            entries={Part.from_plain(e["part"]): _measured_from_plain(e) for e in plain["entries"]},
            networks=tuple(
                Network(from_plain(n["spec"]), n["held_out"], _measured_from_plain(n))
                for n in plain["networks"]
            ),
            corrections={name: Correction(**readings[name]["correction"]) for name in READINGS},
            accuracies={name: Accuracy(**readings[name]["accuracy"]) for name in READINGS},
            provenance=Provenance(**{**provenance, "notes": tuple(provenance["notes"])}),
        )

    def __str__(self) -> str:
        lines = [
            f"latency table of {self.space_name} ({self.space_digest}): {len(self.entries)} parts,"
            f" {self.provenance.rounds} rounds in {self.provenance.seconds:.0f} s",
            f"  {self.scenario}; {clock_of(self.scenario)}",
        ]
        lines += [f"  {reading}: {_told(self.accuracies.get(reading))}" for reading in READINGS]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.provenance.notes)])


def _told(found: Accuracy | None) -> str:
    if found is None or found.mape is None:
        return "no held-out network was measured"
    text = f"{found.n} held-out networks, mean error {100 * found.mape:.1f} %"
    if found.tau is None or found.tau_low is None or found.tau_high is None:
        return text
    return f"{text}, Kendall tau {found.tau:.2f} ({found.tau_low:.2f} to {found.tau_high:.2f})"


def _measured_to_plain(measured: Measured) -> dict[str, Any]:
    return {
        name: {**found.summary(), "samples_ms": list(found.samples_ms)} for name, found in measured.items()
    }


def _measured_from_plain(plain: Mapping[str, Any]) -> dict[str, Latency]:
    return {name: Latency(tuple(map(float, plain[name]["samples_ms"]))) for name in READINGS}


def readable(plain: Any) -> str:
    """JSON with one line per list of numbers."""
    text = json.dumps(plain, indent=1)
    return re.sub(r"\[[\d\s.,e+-]+\]", lambda found: " ".join(found[0].split()), text)


def read_plain(path: Path) -> Any:
    """The JSON in a file.

    Raises:
        ProfileError: it cannot be read, or holds no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ProfileError(f"{path}: not JSON: {error}") from error


def write_whole(path: Path, text: str) -> None:
    """Put `text` in a file, all of it or nothing; the old content stays until then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
