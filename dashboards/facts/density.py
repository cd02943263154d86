"""Many points as the density in which they lie: what is drawn where they are too many to tell apart."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dashboards.facts.scored import Numbers

DENSE = 20_000
"""More points than this are drawn as their density."""

CELLS = (180, 120)
"""Cells along the horizontal and the vertical axis."""

WIDE = 30.0
"""An axis is logarithmic where its largest value is so many times the smallest."""


@dataclass(frozen=True)
class Span:
    """The cells along an axis, from `low` to `high`, equally wide in logarithms where it is `logarithmic`."""

    low: float
    high: float
    cells: int
    logarithmic: bool

    @property
    def centres(self) -> Numbers:
        """The middles of the cells, shape [cells]."""
        edges = self.edges
        middles: Numbers = (
            np.sqrt(edges[1:] * edges[:-1]) if self.logarithmic else (edges[1:] + edges[:-1]) / 2
        )
        return middles

    @property
    def edges(self) -> Numbers:
        """The ends of the cells, shape [cells + 1]."""
        if self.logarithmic:
            return np.geomspace(self.low, self.high, self.cells + 1)
        return np.linspace(self.low, self.high, self.cells + 1)

    def place(self, values: Numbers) -> NDArray[np.int64]:
        """The cell of each value."""
        low, high = (np.log(self.low), np.log(self.high)) if self.logarithmic else (self.low, self.high)
        along = ((np.log(values) if self.logarithmic else values) - low) / ((high - low) or 1.0)
        cells: NDArray[np.int64] = np.clip((along * self.cells).astype(np.int64), 0, self.cells - 1)
        return cells


@dataclass(frozen=True)
class Density:
    """How many points lie in each cell: `counts`, shape [y cells, x cells], of `points` in all."""

    x: Span
    y: Span
    points: int
    counts: NDArray[np.unsignedinteger] = field(compare=False)


def is_wide(low: float, high: float) -> bool:
    """Whether values in such a range are read best on a logarithmic axis."""
    return low > 0 and high > WIDE * low


def density_of(
    x: Numbers, y: Numbers, logarithmic: tuple[bool | None, bool | None] = (None, None)
) -> Density:
    """The density of points; where it is not said whether an axis is logarithmic, their range decides."""
    spans = []
    for values, cells, wanted in zip((x, y), CELLS, logarithmic, strict=True):
        low, high = float(values.min()), float(values.max())
        spans.append(Span(low, high, cells, low > 0 and (is_wide(low, high) if wanted is None else wanted)))
    cell = spans[1].place(y) * CELLS[0] + spans[0].place(x)
    counts = np.bincount(cell, minlength=CELLS[0] * CELLS[1]).reshape(CELLS[1], CELLS[0])
    return Density(spans[0], spans[1], len(x), counts.astype(np.min_scalar_type(int(counts.max()))))
