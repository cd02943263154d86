"""What a search gained: the hypervolume of what it found over that of random choice, at equal count.

Both sides have the same number of scored candidates, unless another is asked for, and share one reference
point. Where there are more random candidates, their volume is its mean over draws of that many.

The interval resamples the candidates of both sides. A resample misses some members of each front, so its
volumes are too small; only the spread of the resampled ratios is used, around the ratio itself. On synthetic
clouds of 12 to 200 candidates, whose true ratio is known, such a 95 % interval contained it in 79 to 100 % of
cases. It measures the luck of the draw with these weights, not that of other random seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np

from foundation.statistics import interval
from nas.pareto import Points, hypervolume, in_logarithms, reference_point, signs_of
from nas.validation.agreement import FEW
from nas.validation.errors import NothingToCompare

RESAMPLES = 500
DRAWS = 100
MIN_CANDIDATES = 2
"""Candidates on each side below which a ratio says nothing."""

Candidate: TypeAlias = "Sequence[float] | None"
"""Objectives, all minimised; None where scoring failed: it was tried, and counts."""


@dataclass(frozen=True)
class Gain:
    """A ratio of hypervolumes with its interval; above 1, the search found more than random choice.

    Fewer than `FEW` candidates a side have no interval: a resample of so few often repeats one of them.
    `candidates` of the search were compared with draws of `against` random ones, of `available` in all.
    """

    ratio: float
    interval: tuple[float, float] | None
    candidates: int
    against: int
    available: int

    def to_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return {**asdict(self), "interval": self.interval and list(self.interval)}

    def __str__(self) -> str:
        spread = f"too few candidates for an interval: at least {FEW}"
        if self.interval is not None:
            spread = f"95 % interval {self.interval[0]:.2f} to {self.interval[1]:.2f}"
        return (
            f"hypervolume {self.ratio:.2f} times that of random choice ({spread}),"
            f" {self.candidates} candidates against {self.against}"
        )


def gain(
    searched: Sequence[Candidate], random: Sequence[Candidate], *, against: int | None = None, seed: int = 0
) -> Gain:
    """The candidates of a search against random ones: against as many, or as `against` says.

    Where there are fewer random ones than candidates of the search, the first of these are compared.

    Raises:
        NothingToCompare: fewer than two on a side, or none of a side could be scored.
    """
    count = min(len(searched), len(random))
    if count < MIN_CANDIDATES:
        raise NothingToCompare(
            f"a gain needs at least {MIN_CANDIDATES} candidates of the search and as many random ones, got"
            f" {len(searched)} and {len(random)}"
        )
    searched, against = searched[:count], min(against or count, len(random))
    if not (_scored(searched) and _scored(random)):
        raise NothingToCompare("a gain needs candidates that could be scored, on both sides")
    reference = reference_point([*_scored(searched), *_scored(random)])
    points, chance = _placed(searched, reference), _placed(random, reference)
    dice = np.random.default_rng(seed)
    ratio = hypervolume(points, reference) / _random_volume(chance, against, reference, dice)
    spread = None
    if min(count, against) >= FEW:
        low, high = _spread(points, chance, against, reference, dice)
        spread = (ratio * low, ratio * high)
    return Gain(ratio, spread, count, against, len(random))


def _spread(
    points: Points, chance: Points, against: int, reference: Points, dice: np.random.Generator
) -> tuple[float, float]:
    """Between which factors 95 % of resampled ratios lie, around their mean."""
    logarithms = []
    for _ in range(RESAMPLES):
        volume = hypervolume(points[dice.integers(len(points), size=len(points))], reference)
        by_chance = hypervolume(chance[dice.integers(len(chance), size=against)], reference)
        if volume > 0 and by_chance > 0:
            logarithms.append(math.log(volume / by_chance))
    if not logarithms:
        return 0.0, math.inf
    low, high = np.exp(interval(np.array(logarithms) - np.mean(logarithms)))
    return float(low), float(high)


def _scored(candidates: Sequence[Candidate]) -> list[Sequence[float]]:
    return [point for point in candidates if point is not None]


def _placed(candidates: Sequence[Candidate], reference: Points) -> Points:
    """All of them as points; what failed lies on the reference point and dominates nothing."""
    return np.array([reference if point is None else point for point in candidates], dtype=float)


def _random_volume(chance: Points, count: int, reference: Points, dice: np.random.Generator) -> float:
    """The mean volume of `count` of them."""
    if len(chance) == count:
        return hypervolume(chance, reference)
    drawn = (dice.permutation(len(chance))[:count] for _ in range(DRAWS))
    return float(np.mean([hypervolume(chance[picks], reference) for picks in drawn]))


def scaled(points: Sequence[Sequence[float]], logarithmic: Sequence[bool]) -> list[tuple[float, ...]]:
    """Points with these axes in logarithms, in which twice as fast counts the same everywhere.

    Axes that are maximised come negated, and stay so. One that holds a zero, or both signs, is left as it is.
    """
    if not points:
        return []
    values = np.array(points, dtype=float)
    signs = np.where(logarithmic, signs_of(values.min(axis=0), values.max(axis=0)), 0)
    return [tuple(row) for row in in_logarithms(values, signs).tolist()]
