"""What a latency table consists of: latencies by reading, whole networks, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from hw_profiles.timing.timings import Latency
from search_spaces.network.decoder import Decoder

Measured: TypeAlias = "Mapping[str, Latency]"
"""Latency by reading (`READINGS`); a part at a position of its own has no prefill."""


@dataclass(frozen=True)
class MeasuredNetwork:
    """A random whole network that was measured: to fit the correction, or, `held_out`, to test it."""

    spec: Decoder
    held_out: bool
    measured: Measured


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a table comes from: when, how thoroughly, and what a reader should know.

    `reference_ms` is the time of the calibration kernel on the quiet machine; `overheads` are, by width and
    reading, the milliseconds of a model around its halves, where parts were timed. `serving` is how
    the times of a server follow from those of the table, in a scenario with arrivals.
    """

    created: str = ""
    rounds: int = 0
    seconds: float = 0.0
    reference_ms: float = 1.0
    reference_wall_ms: float = 1.0
    overheads: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    serving: Mapping[str, float] = field(default_factory=dict)
    software: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def measured_to_plain(measured: Measured) -> dict[str, Any]:
    """Latencies as values that JSON can hold."""
    return {name: found.to_plain() for name, found in measured.items()}
