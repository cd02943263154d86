"""Two latency tables side by side."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

from hw_profiles.fingerprint import differences
from hw_profiles.latency.table import LatencyTable
from hw_profiles.timing.timings import READINGS

SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How the second of two tables stands to the first.

    `ratios` are by reading and block the second median over the first; `alone` counts the blocks that only
    the first, and only the second, has measured.
    """

    circumstances: str
    ratios: dict[str, dict[str, float]]
    alone: tuple[int, int]

    def mean(self, reading: str) -> float | None:
        """The geometric mean of the ratios; None where nothing is in common."""
        found = self.ratios[reading].values()
        return math.exp(statistics.fmean(map(math.log, found))) if found else None

    def to_plain(self) -> dict[str, Any]:
        """Values that JSON can hold."""
        return {
            "circumstances": self.circumstances,
            "mean_ratio": {reading: self.mean(reading) for reading in self.ratios},
            "ratios": self.ratios,
            "only_first": self.alone[0],
            "only_second": self.alone[1],
        }

    def __str__(self) -> str:
        lines = [f"circumstances: {self.circumstances or 'the same'}"]
        for reading, ratios in self.ratios.items():
            mean = self.mean(reading)
            if mean is None:
                lines.append(f"{reading}: no block was measured in both")
                continue
            low, high = min(ratios.values()), max(ratios.values())
            lines.append(
                f"{reading}: second over first {mean:.3g} on average over {len(ratios)} blocks"
                f" ({low:.3g} to {high:.3g}); farthest from it:"
            )
            far = sorted(ratios, key=lambda name: -abs(math.log(ratios[name] / mean)))
            lines += [f"  {ratios[name]:.3g}  {name}" for name in far[:SHOWN]]
        lines.append(f"measured only in the first: {self.alone[0]}; only in the second: {self.alone[1]}")
        return "\n".join(lines)


def compare(one: LatencyTable, other: LatencyTable) -> Comparison:
    """Compare two tables, of whatever machines."""
    told = (
        differences(one.scenario.conditions(), other.scenario.conditions()),
        differences(one.fingerprint, other.fingerprint),
    )
    both = [part for part in one.entries if part in other.entries]
    ratios: dict[str, dict[str, float]] = {}
    for reading in READINGS:
        pairs = [
            (str(part), one.entries[part][reading].median_ms, other.entries[part][reading].median_ms)
            for part in both
            if reading in one.entries[part] and reading in other.entries[part]
        ]
        ratios[reading] = {name: b / a for name, a, b in pairs if a > 0 and b > 0}
    alone = (len(one.entries) - len(both), len(other.entries) - len(both))
    return Comparison(circumstances="; ".join(filter(None, told)), ratios=ratios, alone=alone)
