"""The latency table of a bundle that another machine has run: `samples.jsonl`, read value by value.

A line holds the machine, or the milliseconds of so many calls of one program. The list of calls says of which
network or part; the table that comes of it is checked like one from elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from foundation.errors import FileError, NasError, NoFile, ProfileError
from foundation.fields import Field
from foundation.files import parse_json, read_bytes, read_json
from hw_profiles.bundles.writing import BUNDLE, FORMAT, SAMPLES, VERSION
from hw_profiles.latency.assembly import corrected
from hw_profiles.latency.parts import COPIES, part_samples
from hw_profiles.latency.provenance import with_marks
from hw_profiles.latency.reading import LONGEST_MS
from hw_profiles.latency.table import LatencyTable
from hw_profiles.timing.timings import READINGS, Latency

BYTES = 64 * 2**20
CALLS, INPUTS = 50_000, 10_000
"""Calls of a bundle at most."""

NAMES = frozenset((*READINGS, *(f"{copies}/{reading}" for copies in (0, *COPIES) for reading in READINGS)))
MACHINE = ("cpu_model", "cores", "platform", "python", "onnxruntime", "executorch")

Samples = dict[int, list[tuple[float, float]]]
"""Milliseconds of one call, CPU and wall, by its number."""


def table_of_bundle(folder: str | Path) -> LatencyTable:
    """The table of a bundle, with its error on the networks held out.

    Raises:
        ProfileError: it is no bundle, was not run to its end, or holds what no bundle has.
    """
    folder = Path(folder)
    try:
        bundle = Field(read_json(folder / BUNDLE, at_most=BYTES), str(folder / BUNDLE))
        if bundle["format"].plain != FORMAT or bundle["version"].plain != VERSION:
            raise ProfileError(
                f"{folder / BUNDLE} is no bundle of version {VERSION}: write it again, with `nas profile"
                " SPACE --bundle DIR`, and run that"
            )
        machine, samples = _samples(folder / SAMPLES)
        return _table(bundle, machine, samples, str(folder))
    except NoFile as error:
        if not (folder / BUNDLE).exists():
            raise ProfileError(
                f"{folder} is a folder, not a file, and holds no bundle: no {BUNDLE}"
            ) from None
        raise ProfileError(f"{error} (sh run.sh writes it)") from None
    except ProfileError:
        raise
    except NasError as error:
        raise ProfileError(f"{folder}: {error}") from None


def _samples(path: Path) -> tuple[dict[str, Any], Samples]:
    """The machine, and the samples by call."""
    machine: dict[str, Any] = {}
    found: Samples = {}
    for line in _lines(path):
        if "machine" in line.names():
            machine = {
                name: value.plain for name, value in line["machine"].items(most=100) if name in MACHINE
            }
            continue
        repeats = line["repeats"].whole(least=1, most=10**6)
        cpu, wall = line["ms"].entries(least=2, most=2)
        for time in (cpu, wall):
            time.number(least=0, most=LONGEST_MS)
        call = line["call"].whole(least=0, most=CALLS)
        found.setdefault(call, []).append((cpu.plain / repeats, wall.plain / repeats))
    return machine, found


def _lines(path: Path) -> Iterator[Field]:
    for number, text in enumerate(read_bytes(path, at_most=BYTES).decode("utf-8", "replace").splitlines(), 1):
        try:
            yield Field(parse_json(text), f"{path}, line {number}")
        except ValueError as error:
            raise FileError(f"{path}, line {number}: {error}") from None


def _table(bundle: Field, machine: dict[str, Any], samples: Samples, where: str) -> LatencyTable:
    """The table that the bundle describes, with what was measured."""
    calls = bundle["calls"].entries(most=CALLS)
    if missing := [number for number in range(len(calls)) if number not in samples]:
        raise ProfileError(f"{where}: {len(missing)} of {len(calls)} programs have no samples: run it again")
    timed: dict[tuple[str, int], dict[str, list[tuple[float, float]]]] = {}
    for number, call in enumerate(calls):
        kind, index = call["of"].entries(least=2, most=2)
        place = kind.word(("networks", "entries")), index.whole(least=0, most=CALLS)
        timed.setdefault(place, {})[call["name"].word(NAMES)] = samples[number]
    table = dict(bundle["table"].plain)
    for name in ("networks", "entries"):
        described = bundle["table"][name].entries(most=CALLS)
        table[name] = [
            {**dict(each.items()), **_measured(timed.get((name, index), {}), name)}
            for index, each in enumerate(described)
        ]
        table[name] = [{key: getattr(v, "plain", v) for key, v in each.items()} for each in table[name]]
    versions = {name: version.text() for name, version in bundle["versions"].items(most=20)}
    threads = bundle["table"]["scenario"]["threads"].plain
    table["fingerprint"] = {"threads": threads, "gpu": None, "governor": None, **versions, **machine}
    rounds = min(len(each) for each in samples.values())
    table["provenance"] = {
        **table["provenance"],
        "rounds": rounds,
        "notes": ["run as a bundle, without a calibration kernel"],
    }
    found = corrected(LatencyTable.from_plain(json.loads(json.dumps(table)), where))
    return with_marks(replace(found), [])


def _measured(timed: dict[str, list[tuple[float, float]]], name: str) -> dict[str, Any]:
    """Latencies by reading, as a table's file holds them."""
    times, walls = ({key: [pair[i] for pair in pairs] for key, pairs in timed.items()} for i in (0, 1))
    if name == "entries":
        times, walls = part_samples(times)[0], part_samples(walls)[0]
    return {
        reading: Latency(tuple(times[reading]), tuple(walls[reading])).rounded().to_plain()
        for reading in READINGS
        if reading in times
    }
