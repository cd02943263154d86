"""The outcomes of a search as arrays, those of other studies among them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nas.pareto import nondominated
from nas.strategies.surrogate.encoding import Rows
from nas.strategies.surrogate.pairing import paired

Array = NDArray[np.float64]

FRONTS = 100
"""Candidates that are told apart by rank."""


@dataclass(frozen=True)
class Heard:
    """The outcomes of N candidates: their rows (N, G), K values each (nan where there is none), errors.

    Values of other studies that may mean something else here are `unlike` (N, K); see `reconciled`. `samples`
    (N, K) are those that a score of this search is the mean of, None where there are none.
    """

    numbers: NDArray[np.int64]
    rows: Rows
    scored: NDArray[np.bool_]
    values: Array
    errors: Array
    unlike: NDArray[np.bool_]
    samples: NDArray[np.object_] | None = None

    def take(self, which: NDArray[np.int64]) -> Heard:
        """Those of some candidates."""
        return Heard(
            self.numbers[which],
            self.rows[which],
            self.scored[which],
            self.values[which],
            self.errors[which],
            self.unlike[which],
            None if self.samples is None else self.samples[which],
        )

    def reconciled(self) -> Heard:
        """The same with errors of what tells candidates apart (see `paired`), and without unlike values.

        Those are moved and widened by as much as their pairs differ.
        """
        if self.samples is None and not self.unlike.any():
            return self
        values, errors = self.values.copy(), self.errors.copy()
        if self.samples is not None:
            errors = np.stack([paired(e, s) for e, s in zip(errors.T, self.samples.T, strict=True)], axis=1)
        own = {row.tobytes(): i for i, row in enumerate(self.rows) if self.numbers[i] >= 0}
        for k in range(values.shape[1]):
            others = np.flatnonzero(self.unlike[:, k])
            pairs = [(i, own[key]) for i in others if (key := self.rows[i].tobytes()) in own]
            apart = np.array([values[j, k] - values[i, k] for i, j in pairs])
            apart = apart[np.isfinite(apart)]
            spread = float(np.nanstd(values[others, k])) if len(others) else 0.0
            moved = float(np.median(apart)) if len(apart) else 0.0
            # as if one more pair were off by as much as the values differ among themselves
            unexplained = float(np.sqrt((((apart - moved) ** 2).sum() + spread**2) / (len(apart) + 1)))
            values[others, k] += moved
            errors[others, k] = np.hypot(errors[others, k], unexplained)
        return replace(self, values=values, errors=errors, unlike=np.zeros_like(self.unlike))

    def ranked(self) -> NDArray[np.int64]:
        """The indices of candidates with all values, front by front; those behind the first hundred as they
        came."""
        left = np.flatnonzero(self.scored & np.isfinite(self.values).all(axis=1))
        ranked: list[NDArray[np.int64]] = []
        while len(left) and sum(map(len, ranked)) < FRONTS:
            best = np.array(nondominated(self.values[left]), dtype=bool)
            ranked.append(left[best])
            left = left[~best]
        return np.concatenate([*ranked, left]) if ranked else left

    def chosen(self, count: int) -> NDArray[np.int64]:
        """At most so many indices: half of them the best, the others spread evenly over the rest."""
        if len(self.numbers) <= count:
            return np.arange(len(self.numbers))
        best = self.ranked()[: count // 2]
        rest = np.setdiff1d(np.arange(len(self.numbers)), best)
        spread = rest[np.linspace(0, len(rest) - 1, count - len(best)).astype(np.int64)]
        return np.sort(np.concatenate((best, spread)))
