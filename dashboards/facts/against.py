"""Two latency tables against each other: the same blocks on two devices, or in two runtimes of one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from dashboards.facts.anatomy import READINGS
from dashboards.facts.device import BlockCurve, DeviceCurves, chosen_parts, curve_of, device_curves
from dashboards.facts.networks import kind_of
from foundation.text import listed
from hw_profiles.latency.table import LatencyTable


@dataclass(frozen=True)
class Ratio:
    """How many times as long the second table takes as the first, with its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class AgainstFacts:
    """The curves of blocks by the first table, and of the same blocks by the second, by name.

    `ratios` are by block and reading, at the width `at` that both know of it; `missing` says, in sentences,
    which blocks the second table does not tell, and why.
    """

    first: DeviceCurves
    second: Mapping[str, BlockCurve]
    ratios: Mapping[str, Mapping[str, Ratio]]
    at: Mapping[str, int]
    missing: tuple[str, ...]


def against(first: LatencyTable, second: LatencyTable, kind: str = "") -> AgainstFacts:
    """The blocks of `device_curves` by both tables."""
    curves = device_curves(first, kind)
    widths = sorted({part.d_model for part in second.entries})
    found, illegal, unknown = dict[str, BlockCurve](), dict[str, str](), list[str]()
    for name, part in chosen_parts(first, kind):
        if reason := second.illegal.get(kind_of(part.block)):
            illegal[kind_of(part.block)] = reason
            continue
        curve = curve_of(second, name, part, widths)
        if curve is None:
            unknown.append(name)
        else:
            found[name] = curve
    missing = [f"{block} cannot run there: {reason}." for block, reason in sorted(illegal.items())]
    if unknown:
        missing.append(f"The second table does not tell {listed(sorted(set(unknown)))}.")
    known = {curve.name: curve for curve in curves.curves if curve.name in found}
    at = {name: width for name, curve in known.items() if (width := _common(curve, found[name])) is not None}
    ratios = {
        name: {r: _ratio(known[name], found[name], r, width) for r in READINGS} for name, width in at.items()
    }
    return AgainstFacts(curves, found, ratios, at, tuple(missing))


def _common(first: BlockCurve, second: BlockCurve) -> int | None:
    """The middle of the widths at which both tables tell a block."""
    both = {int(p.at) for p in first.by_width[READINGS[0]]} & {
        int(p.at) for p in second.by_width[READINGS[0]]
    }
    return sorted(both)[len(both) // 2] if both else None


def _ratio(first: BlockCurve, second: BlockCurve, reading: str, width: int) -> Ratio:
    """Errors of the two are independent: they were measured apart."""
    here, there = (next(p for p in c.by_width[reading] if p.at == width) for c in (first, second))
    if here.ms <= 0:
        return Ratio(math.nan, math.nan)
    value = there.ms / here.ms
    relative = math.hypot(here.error / here.ms, there.error / there.ms if there.ms > 0 else 0.0)
    return Ratio(value, value * relative)
