"""What a study can be asked to trade off, and to respect: named numbers with units.

Most numbers are cheap: counted on paper or predicted from a latency table, in microseconds, before anything
is trained. Those without a `cheap` function are scored by an evaluator on a worker. One new file in this
folder that adds one `Objective` makes a new number known everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hw_profiles.table import LatencyTable
from nas.trial import Value
from search_spaces.registry import Registry
from search_spaces.scenario import Scenario


@dataclass(frozen=True)
class Bench:
    """What cheap objectives may look at besides the architecture."""

    scenario: Scenario
    table: LatencyTable | None = None


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A named number about an architecture.

    `cheap` computes it at once; None means that an evaluator must score it. Smaller is better unless
    `maximise`. `needs_table` says that the study must measure a latency table first.
    """

    name: str
    unit: str
    about: str
    cheap: Callable[[Any, Bench], Value] | None = None
    maximise: bool = False
    needs_table: bool = False

    @property
    def label(self) -> str:
        """How an axis is titled."""
        words = self.name.replace("_ms", "").replace("_", " ")
        return f"{words} ({self.unit})" if self.unit and self.unit not in words else words


objectives: Registry[Objective] = Registry("objective", folder="nas.objectives")
