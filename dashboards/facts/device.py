"""What a latency table says of its device: curves of blocks, whole networks, what is emulated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dashboards.facts.anatomy import READINGS
from dashboards.facts.networks import architecture, kind_of
from dashboards.facts.reading import Reading
from foundation.errors import NasError
from foundation.text import count, listed
from hw_profiles.latency.correction import Correction
from hw_profiles.latency.parts import NONE_REAL, PLAIN, Part
from hw_profiles.latency.table import LatencyTable
from search_spaces.language.printing import brief
from search_spaces.network.decoder import Decoder
from search_spaces.quantization.kernels import Factors, factors_of

POSITIONS = 9
"""Places at which a decode step is told, from the first token to the end of the context."""

VARIANTS = 8
"""Blocks of one kind that are drawn."""


@dataclass(frozen=True)
class CurvePoint:
    """Milliseconds of a block at a width or a position; `measured` is false where they are interpolated."""

    at: float
    ms: float
    error: float
    measured: bool


@dataclass(frozen=True)
class BlockCurve:
    """One block: its latencies by width and reading, and those of a decode step by position at one width."""

    name: str
    text: str
    by_width: Mapping[str, tuple[CurvePoint, ...]]
    by_position: tuple[CurvePoint, ...]


@dataclass(frozen=True)
class DeviceCurves:
    """Blocks of a table; curves over positions are at `width`. What it cannot tell is left out."""

    curves: tuple[BlockCurve, ...]
    kinds: tuple[str, ...]
    width: int
    context: int


@dataclass(frozen=True)
class WholePair:
    """A whole network as predicted and as measured, in ms with standard errors; `role` says whose it is."""

    role: str
    predicted: float
    predicted_error: float
    measured: float
    measured_error: float


FITTED, HELD_OUT, MEMBER = "fitted to", "held out", "on the front"


def device_curves(table: LatencyTable, kind: str = "") -> DeviceCurves:
    """One block of every kind, or, of a `kind` that the table has, up to `VARIANTS` of its blocks.

    A kind stands for itself by the block that was measured most often, at 16-bit states where there are any.
    """
    widths = sorted({part.d_model for part in table.entries})
    if not widths:
        return DeviceCurves((), (), 0, table.scenario.context)
    curves = [curve_of(table, name, part, widths) for name, part in chosen_parts(table, kind)]
    shown, middle = tuple(each for each in curves if each), widths[len(widths) // 2]
    return DeviceCurves(shown, _kinds(table), middle, table.scenario.context)


def chosen_parts(table: LatencyTable, kind: str = "") -> list[tuple[str, Part]]:
    """The blocks of `device_curves`, named, at the middle one of the table's widths."""
    widths, kinds = sorted({part.d_model for part in table.entries}), _kinds(table)
    if not widths:
        return []
    middle = widths[len(widths) // 2]
    alike: dict[str, Counter[Part]] = {}
    for part in _blocks(table):
        if part.factors == PLAIN and not part.reads_embedding:
            alike.setdefault(kind_of(part.block), Counter())[replace(part, d_model=middle)] += 1
    chosen: list[tuple[str, Part]] = []
    for name in kinds if kind not in kinds else (kind,):
        order = sorted(
            alike.get(name, Counter()).items(), key=lambda each: (-each[0].state_bits, -each[1], str(each[0]))
        )
        some = order[:VARIANTS] if kind in kinds else order[:1]
        chosen += [(name if kind not in kinds else _variant(part), part) for part, _ in some]
    return chosen


def _blocks(table: LatencyTable) -> list[Part]:
    return [part for part in table.entries if part.block is not None and part.position is None]


def _kinds(table: LatencyTable) -> tuple[str, ...]:
    return tuple(sorted({kind_of(part.block) for part in _blocks(table)}))


def _variant(part: Part) -> str:
    state = f", {part.state_bits}-bit state" if part.state_bits < 16 else ""
    return f"{brief(part.block)}{state}"


def curve_of(table: LatencyTable, name: str, part: Part, widths: Sequence[int]) -> BlockCurve | None:
    """The curve of a block; None where the table cannot tell it at any width."""
    at_widths = {
        width: times for width in widths if (times := _times(table, replace(part, d_model=width))) is not None
    }
    if not at_widths:
        return None
    by_width = {
        reading: tuple(
            CurvePoint(width, *times[reading], replace(part, d_model=width) in table.entries)
            for width, times in at_widths.items()
        )
        for reading in READINGS
    }
    by_position = []
    context = table.scenario.context
    for position in dict.fromkeys(np.linspace(1, context, min(POSITIONS, context)).astype(int).tolist()):
        moved = replace(part, position=position) if part.grows(context) else part
        times = _times(table, moved)
        if times is not None:
            by_position.append(CurvePoint(position, *times["decode_ms"], moved in table.entries))
    return BlockCurve(name, _variant(part), by_width, tuple(by_position))


def _times(table: LatencyTable, part: Part) -> dict[str, tuple[float, float]] | None:
    """What a part adds to the prediction of a network, in ms, with its standard error; None if unknown."""
    try:
        found = table.corrected_parts([part])
    except NasError:
        return None
    scales = {reading: table.corrections.get(reading, Correction()).scale for reading in READINGS}
    return {r: (scales[r] * found[r][0][0], scales[r] * found[r][0][1]) for r in READINGS}


def whole_pairs(
    reading: Reading, table: LatencyTable | None, scenario: str
) -> dict[str, tuple[WholePair, ...]]:
    """Whole networks by reading: those of the table, and measured members of the front."""
    found: dict[str, list[WholePair]] = {name: [] for name in READINGS}
    if table is not None:
        for network in table.networks:
            role = HELD_OUT if network.held_out else FITTED
            try:
                predicted = table.predict(network.spec)
            except NasError:
                continue
            for name in READINGS:
                if name in network.measured:
                    known = network.measured[name]
                    pair = WholePair(role, *predicted[name], known.median_ms, known.standard_error)
                    found[name].append(pair)
    measured = reading.measured
    for trial in reading.predicted_members:  # those that measuring threw out tell most about predictions
        for name in READINGS:
            of = f"{name}@{scenario}" if scenario else name
            before, after = trial.values.get(of), measured.get(trial.digest, {}).get(of)
            if before is not None and after is not None and before.is_predicted and not after.is_predicted:
                errors = before.error or 0.0, after.error or 0.0
                found[name].append(WholePair(MEMBER, before.value, errors[0], after.value, errors[1]))
    return {name: tuple(pairs) for name, pairs in found.items()}


def mean_error(pairs: Iterable[WholePair]) -> tuple[float, float, int] | None:
    """The mean absolute error relative to what was measured, its standard error, and of how many networks."""
    errors = [abs(each.predicted / each.measured - 1) for each in pairs if each.measured > 0]
    if len(errors) < 2:
        return None
    return float(np.mean(errors)), float(np.std(errors, ddof=1) / np.sqrt(len(errors))), len(errors)


def not_really_run(reading: Reading, table: LatencyTable | None) -> list[str]:
    """What is emulated of the front, and which blocks the runtime cannot run, in sentences."""
    real = table.real_bits if table is not None else NONE_REAL
    emulated: Counter[Factors] = Counter()
    specs = [architecture(reading.study, trial) for trial in reading.members]
    decoders = [spec for spec in specs if isinstance(spec, Decoder)]
    for spec in decoders:
        used = {factors_of(layer.bits_at(place)) for layer in spec.layers for place in layer.blocks}
        emulated.update(used - real - {PLAIN})
    told = []
    if emulated:
        kinds = [f"{_bits(factors)} (in {times:,})" for factors, times in emulated.most_common()]
        told.append(
            f"Emulated here, of {count(len(decoders), 'network')} on the front: {listed(kinds)}. They count"
            " with the bytes that they store, and take the time of 16 bits."
        )
    elif decoders:
        told.append("Nothing of the networks on the front is emulated here.")
    if real:
        told.append(f"On kernels of their own run {listed(sorted(_bits(each) for each in real))}.")
    for kind, reason in sorted(table.illegal.items()) if table is not None else ():
        told.append(f"{kind} cannot run here: {reason}")
    if table is not None and not table.illegal:
        told.append("No block of the table is illegal for this runtime.")
    if table is not None and table.restless:
        told.append(f"{count(table.restless, 'latency', 'latencies')} did not settle while measured.")
    return told


def _bits(factors: Factors) -> str:
    weight, activation, numbers = factors
    kind = " (float8)" if numbers == "float" else ""
    return f"{weight:g}-bit weights with {activation}-bit activations{kind}"
