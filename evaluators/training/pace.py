"""How fast a training is: tokens a second, and the share of what the device could compute (MFU).

The share counts the products that a training needs on paper, three times those of a forward pass, and no
recomputation: model FLOPs utilization (Chowdhery et al. 2022, arXiv:2204.02311, appendix B).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

STRETCH_SECONDS = 1.0
"""Steps are timed together until so much time has passed: losses of a GPU are read many at a time."""

LATEST = 5
"""Stretches that are the pace of now."""


@dataclass
class Pace:
    """The pace of steps that read `tokens` each, and need `flops` of a device with a `peak` a second.

    Zero and None: not known. Where the work of steps changes, or takes a while to count, `flops` is what
    counts it; it is asked only where the peak is known.
    """

    tokens: int = 0
    flops: float | Callable[[], float] = 0.0
    peak: float | None = None
    _steps: int = 0
    _since: float = field(default_factory=monotonic)
    _rates: list[float] = field(default_factory=list)

    def add(self) -> None:
        """One more step is known to be done."""
        self._steps += 1
        passed = monotonic() - self._since
        if passed >= STRETCH_SECONDS:
            self._rates.append(self._steps / passed)
            self._steps, self._since = 0, monotonic()

    @property
    def steps_per_second(self) -> float:
        """The median over stretches, so that what was compiled in one of them does not count."""
        if self._rates:
            return statistics.median(self._rates)
        return self._steps / max(monotonic() - self._since, 1e-9)

    @property
    def tokens_per_second(self) -> float:
        """Over all networks of a step; zero where tokens are not known."""
        return self.tokens * self.steps_per_second

    @property
    def peak_share(self) -> float | None:
        """The share of the device's peak; None where that, or the work of a step, is not known."""
        return self._share(self.steps_per_second)

    @property
    def tokens_now(self) -> float:
        """Tokens a second over the latest stretches, as somebody sees it who watches."""
        return self.tokens * self._now

    @property
    def peak_share_now(self) -> float | None:
        """The share of the device's peak over the latest stretches."""
        return self._share(self._now)

    @property
    def _now(self) -> float:
        return statistics.median(self._rates[-LATEST:]) if self._rates else self.steps_per_second

    def _share(self, steps_per_second: float) -> float | None:
        if not self.peak:
            return None
        flops = self.flops() if callable(self.flops) else self.flops
        return flops * steps_per_second / self.peak if flops else None

    def to_plain(self) -> dict[str, Any]:
        """Values that JSON can hold; only those that are known."""
        share = self.peak_share
        found = {"tokens_per_second": round(self.tokens_per_second)} if self.tokens else {}
        return found if share is None else {**found, "peak_share": round(share, 4)}

    def __str__(self) -> str:
        """E.g. `1,415,600 tokens/s, 21 % of the peak`; empty where tokens are not known."""
        if not self.tokens:
            return ""
        share = self.peak_share
        return f"{self.tokens_per_second:,.0f} tokens/s" + (
            "" if share is None else f", {share:.0%} of the peak"
        )
