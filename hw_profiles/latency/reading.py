"""What a table's file must hold, checked value by value: tables come from other machines, and other people.

Whatever is read here is used by regressions and sums without a further look, so every number has a range and
every part can be built. What is wrong is named by its place: `entries[3].decode_ms.samples_ms[0] must be
finite, got 'x'`. Values that older versions did not write have their defaults.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from foundation.errors import NasError
from foundation.fields import Field
from foundation.files import parse_json
from hw_profiles.fingerprint import read_fingerprint
from hw_profiles.latency.correction import Accuracy, Correction
from hw_profiles.latency.parts import Part, Real
from hw_profiles.latency.records import MeasuredNetwork, Provenance
from hw_profiles.runtimes.base import check_scenario
from hw_profiles.timing.timers import on_gpu
from hw_profiles.timing.timings import READINGS, Latency
from search_spaces.blocks.base import Block
from search_spaces.devices import is_device
from search_spaces.language.serialization import from_plain
from search_spaces.network.decoder import Decoder
from search_spaces.network.ends import Head
from search_spaces.network.norms.base import Norm
from search_spaces.quantization.bits import Bits
from search_spaces.quantization.kernels import Factors
from search_spaces.scenario import Scenario

T = TypeVar("T")

LONGEST_MS = 1e9
"""Milliseconds of a latency, at most: eleven days."""

SAMPLES, PARTS, NETWORKS = 10_000, 20_000, 2_000
"""How many a latency, and a table, has at most."""

SIZE, POSITION = 2**24, 2**40
"""The largest width or vocabulary, and position, of a part."""

WORK = 1e24
"""FLOPs and parameters of a part, at most."""

NOTE = 2_000
"""Characters of a note, at most."""


def table_values(table: Field) -> dict[str, Any]:
    """The values of a `LatencyTable`, as its constructor takes them.

    Raises:
        FileError: a value is missing, of another kind, or out of range.
        SettingError, SpaceError, IllegalArchitecture: a scenario, part or network that cannot be.
    """
    scenario = _scenario(table["scenario"])
    readings = {name: table["readings"][name] for name in READINGS}
    entries = [(_part(each["part"], scenario), each) for each in table["entries"].entries(most=PARTS)]
    return {
        "space_name": table["space"]["name"].text(most=NOTE),
        "space_digest": table["space"]["digest"].name(),
        "scenario": scenario,
        "fingerprint": read_fingerprint(table["fingerprint"]),
        "real_bits": _real_bits(table.get("weight_bits")),
        "illegal": {kind: why.text(most=NOTE) for kind, why in table.get("illegal", {}).items(most=1_000)},
        "entries": {part: _measured_part(part, each) for part, each in entries},
        "networks": tuple(map(_network, table["networks"].entries(most=NETWORKS))),
        "corrections": {name: _correction(field["correction"]) for name, field in readings.items()},
        "accuracies": {name: _accuracy(field["accuracy"]) for name, field in readings.items()},
        "provenance": _provenance(table["provenance"]),
    }


def read_part(part: Field) -> Part:
    """A part that can be built.

    Raises:
        FileError: it cannot, or a value is of another kind or out of range.
    """
    found = part.only(*Part.__dataclass_fields__)
    part["d_model"].whole(least=1, most=SIZE)
    whole = {"state_bits": 16, "activation_bits": 16}
    bits = {name: found.get(name, usual).whole() for name, usual in whole.items()}
    weight, numbers = part.get("weight_bits", 16).number(), part.get("numbers", "int").text()
    part.get("reads_embedding", False).flag()
    if (position := part.get("position")).plain is not None:
        position.whole(least=0, most=POSITION)
    if (vocab := part.get("vocab")).plain is not None:
        vocab.whole(least=1, most=SIZE)
    if ("block" in found.plain) == (vocab.plain is not None):
        part.refuse("a part has either a block or a vocab")
    stored = Bits(
        weight=weight, activation=bits["activation_bits"], state=bits["state_bits"], numbers=numbers
    )
    _of(part, stored.check)
    made = _of(part, lambda: Part.from_plain(found.plain))
    if not isinstance(made.norm, Norm):
        part["norm"].refuse("it is no norm")
    _of(part, made.norm.check)
    if not isinstance(made.head, Head):
        part["head"].refuse("it is no head")
    _of(part, made.head.check)
    if made.block is None:
        return made
    if not isinstance(made.block, Block):
        part["block"].refuse("it is no block")
    _of(part["block"], partial(made.block.check, made.d_model))
    return made


def read_latency(latency: Field, *, difference: bool = False) -> Latency:
    """A latency whose median is positive; one that is marked as unsettled may be nothing.

    The samples of a part are differences of two timings: noise makes single ones negative.

    Raises:
        FileError: samples are no times, or the summary is not theirs.
    """
    least = -LONGEST_MS if difference else 0
    samples = latency["samples_ms"].entries(least=1, most=SAMPLES)
    walls = latency.get("samples_wall_ms", ()).entries(most=SAMPLES)
    for sample in (*samples, *walls):
        sample.number(least=least, most=LONGEST_MS)
    unsettled = latency.get("unsettled")
    if unsettled.plain is not None:
        unsettled.text(most=NOTE)
    median = statistics.median(sample.plain for sample in samples)
    nothing = difference and unsettled.plain is not None and any(s.plain >= 0 for s in samples)
    if median <= 0 and not nothing:
        Field(median, f"the median of {latency.place}.samples_ms").number(positive=True)
    if (told := latency.get("median_ms")).plain is not None:
        told.number()
        if abs(told.plain - median) > 1e-3 * abs(median):
            told.refuse(f"{told.plain:g} is not the median of the samples, {median:g}")
    if (count := latency.get("n")).plain is not None and count.whole() != len(samples):
        count.refuse(f"{count.plain} is not the number of samples, {len(samples)}")
    return Latency.from_plain(latency.plain)


def check_sample(key: str, value: Field) -> None:
    """Make sure that a line of a samples file is what `ProfileSession` writes.

    Raises:
        FileError: a value is missing, of another kind, or out of range.
    """
    what, _, name = key.partition("/")
    if what == "calibration":
        for pair in value.entries(most=10 * SAMPLES):
            for time in pair.entries(least=2, most=2):
                time.number(positive=True, most=LONGEST_MS)
    elif what in ("part", "network"):
        described = Field(_of(value, lambda: parse_json(name)), f"{value.place}: {what}")
        least = -LONGEST_MS if what == "part" else 0
        moved = what == "part" and read_part(described).position is not None
        for reading in READINGS[1:] if moved else READINGS:
            for samples in ("ratios", "walls"):
                for sample in value[reading][samples].entries(least=1, most=SAMPLES):
                    sample.number(least=least, most=LONGEST_MS)
        for _, around in value["around"].items(most=10) if what == "part" else ():
            around.number(least=-LONGEST_MS, most=LONGEST_MS)
    elif what == "disturbed":
        value.text(most=NOTE)
    elif what in ("seconds", "first"):
        value.number(least=0, most=LONGEST_MS)
    else:
        value.refuse(f"no profile keeps {key!r:.60}")


def _scenario(scenario: Field) -> Scenario:
    scenario.names(most=100)
    found = Scenario.from_plain(scenario.plain)
    if not is_device(found.device):
        scenario["device"].refuse(f"no device is called {found.device!r:.60}")
    _of(scenario["device"], partial(on_gpu, found))  # or no table can be of it
    check_scenario(found)
    return found


def _part(part: Field, scenario: Scenario) -> Part:
    """A part whose work under the scenario can be counted."""
    found = read_part(part)
    if found.block is not None:
        block = found.block
        cost = _of(part["block"], lambda: block.cost(found.d_model, scenario))
        if max(cost.params, cost.prefill_flops, cost.decode_flops) > WORK:
            part["block"].refuse("it is too large for any machine")
    return found


def _measured_part(part: Part, measured: Field) -> dict[str, Latency]:
    """Its latency by reading; a part at a position of its own has no prefill."""
    names = READINGS if part.position is None else READINGS[1:]
    return {name: read_latency(measured[name], difference=part.block is not None) for name in names}


def _network(network: Field) -> MeasuredNetwork:
    spec = _of(network["spec"], lambda: from_plain(network["spec"].plain))
    if not isinstance(spec, Decoder):
        network["spec"].refuse("it is no network")
    _of(network["spec"], spec.check)
    measured = {name: read_latency(network[name]) for name in READINGS}
    return MeasuredNetwork(spec, network["held_out"].flag(), measured)


def _correction(correction: Field) -> Correction:
    correction.only(*Correction.__dataclass_fields__)
    return Correction(
        correction["scale"].number(positive=True, most=LONGEST_MS),
        correction["offset_ms"].number(least=-LONGEST_MS, most=LONGEST_MS),
        correction["per_layer_ms"].number(least=-LONGEST_MS, most=LONGEST_MS),
        factors=_factors(correction.get("factors", {})),
        widths=_factors(correction.get("widths", {})),
    )


def _factors(factors: Field) -> Mapping[str, float]:
    return {name: field.number(positive=True, most=LONGEST_MS) for name, field in factors.items()}


def _accuracy(accuracy: Field) -> Accuracy:
    accuracy.only(*Accuracy.__dataclass_fields__)
    ranges: dict[str, tuple[int | None, int | None]] = {"bias": (None, None)}
    ranges |= dict.fromkeys(("mape", "rms", "reach"), (0, None))
    ranges |= dict.fromkeys(("tau", "tau_low", "tau_high"), (-1, 1))
    known = [accuracy.get(name) for name in ranges]
    return Accuracy(
        accuracy["n"].whole(least=0),
        **{
            name: None if field.plain is None else field.number(least=least, most=most)
            for field, (name, (least, most)) in zip(known, ranges.items(), strict=True)
        },
    )


def _provenance(provenance: Field) -> Provenance:
    provenance.only(*Provenance.__dataclass_fields__)
    return Provenance(
        created=provenance["created"].text(least=0),
        rounds=provenance["rounds"].whole(least=0),
        seconds=provenance["seconds"].number(least=0),
        reference_ms=provenance["reference_ms"].number(positive=True, most=LONGEST_MS),
        reference_wall_ms=provenance.get("reference_wall_ms", 1.0).number(positive=True, most=LONGEST_MS),
        overheads={
            width: {reading: field.number() for reading, field in readings.items(most=100)}
            for width, readings in provenance.get("overheads", {}).items()
        },
        serving={
            name: field.number(least=0, most=LONGEST_MS)
            for name, field in provenance.get("serving", {}).items(most=100)
        },
        software={name: field.text() for name, field in provenance["software"].items(most=100)},
        notes=tuple(note.text(most=NOTE) for note in provenance["notes"].entries(most=1_000)),
    )


def _real_bits(bits: Field) -> Real:
    """Tables of before there were real kernels say `emulated` of all bits."""
    if not isinstance(bits.plain, Mapping):
        return frozenset()
    return frozenset(map(_factors_of, bits["real"].entries(most=1_000)))


def _factors_of(bits: Field) -> Factors:
    weight, activation, *numbers = bits.entries(least=2, most=3)
    known = numbers[0].word(("int", "float")) if numbers else "int"
    weight.number(least=1, most=16)
    return weight.plain, activation.whole(least=1, most=16), known


def _of(field: Field, make: Callable[[], T]) -> T:
    """What `make` gives; the place of the field stands in front of why it could not."""
    try:
        return make()
    except NasError as error:
        field.refuse(str(error))
    except (TypeError, ValueError, AttributeError, KeyError, ArithmeticError) as error:
        field.refuse(f"{type(error).__name__}: {error}")
