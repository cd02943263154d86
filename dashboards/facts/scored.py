"""Networks that were scored, as columns of numbers: what planes are made of, however many there are."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dashboards.facts.quantities import Quantity
from nas.study.trial import PREDICTED, Trial, Value

Numbers: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
Rows: TypeAlias = NDArray[np.int64]
Whole: TypeAlias = Callable[[Iterable[int]], Mapping[int, Trial]]
"""Whole trials by their numbers; those that cannot be read are left out."""


@dataclass(frozen=True)
class Column:
    """One number of every network: NaN where it is unknown; `sources` are indices into `words`."""

    values: Numbers
    errors: NDArray[np.float32]
    sources: NDArray[np.uint8]
    words: tuple[str, ...] = ("",)

    def at(self, rows: Rows) -> Column:
        """Of some networks only."""
        return Column(self.values[rows], self.errors[rows], self.sources[rows], self.words)

    @property
    def is_predicted(self) -> bool:
        """Whether any of them is predicted."""
        known = np.unique(self.sources[np.isfinite(self.values)])
        return any(self.words[code].startswith(PREDICTED) for code in known)


class _ColumnsAt(Mapping[str, Column]):
    """The columns of some rows, each taken when it is asked for: of many, a figure looks at few."""

    def __init__(self, columns: Mapping[str, Column], rows: Rows) -> None:
        self._columns, self._rows, self._taken = columns, rows, dict[str, Column]()

    def __getitem__(self, name: str) -> Column:
        if name not in self._taken:
            self._taken[name] = self._columns[name].at(self._rows)
        return self._taken[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


@dataclass(frozen=True)
class Scored:
    """Networks by trial `numbers` and `digests`, each architecture once; `whole` reads trials themselves.

    `every` holds the digests of more than these, which stand at `rows` of it (None: they are all).
    """

    numbers: NDArray[np.int64]
    every: NDArray[np.str_]
    columns: Mapping[str, Column] = field(default_factory=dict)
    whole: Whole = field(default=lambda numbers: {}, compare=False)
    rows: Rows | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def digests(self) -> NDArray[np.str_]:
        """The digests of these networks; they are long, so that taking them is not for every redraw."""
        return self.every if self.rows is None else self.every[self.rows]

    @classmethod
    def of(cls, trials: Sequence[Trial]) -> Scored:
        """These trials."""
        names = dict.fromkeys(name for trial in trials for name in trial.values)
        by_number = {trial.number: trial for trial in trials}
        return cls(
            np.array([trial.number for trial in trials], dtype=np.int64),
            np.array([trial.digest for trial in trials], dtype=np.str_),
            {name: column_of([trial.values.get(name) for trial in trials]) for name in names},
            lambda numbers: {n: by_number[n] for n in numbers if n in by_number},
        )

    def where(self, mask: Mask) -> Scored:
        """Some of these networks."""
        kept = np.flatnonzero(mask)
        if len(kept) == len(self):
            return self
        rows = kept if self.rows is None else self.rows[kept]
        return Scored(self.numbers[kept], self.every, _ColumnsAt(self.columns, kept), self.whole, rows)

    def values(self, name: str) -> Numbers:
        """One number of every network; NaN where it is unknown."""
        column = self.columns.get(name)
        return np.full(len(self), np.nan) if column is None else column.values

    def costs(self, quantities: Iterable[Quantity]) -> Numbers:
        """Quantities, shape [networks, quantities], turned so that less is better."""
        columns = [self.values(of.name) * (-1.0 if of.maximise else 1.0) for of in quantities]
        return np.column_stack(columns) if columns else np.empty((len(self), 0))

    def with_column(self, name: str, column: Column) -> Scored:
        """The same networks with other values of a number."""
        return self._with({name: column})

    def corrected(self, measured: Mapping[str, Mapping[str, Value]], names: Iterable[str]) -> Scored:
        """The same with what was measured, by digest and name, in place of what was predicted."""
        found = self.places(measured)
        columns = {}
        for name in names:
            known = {row: measured[digest][name] for digest, row in found.items() if name in measured[digest]}
            if known and name in self.columns:
                columns[name] = _replaced(self.columns[name], known)
        return self._with(columns) if columns else self

    def places(self, digests: Iterable[str]) -> dict[str, int]:
        """The places of the networks with these digests; the others are left out."""
        asked = list(digests)
        if not asked or not len(self):
            return {}
        known = self.digests
        return {str(known[i]): int(i) for i in np.flatnonzero(np.isin(known, asked))}

    def numbered(self, digests: Iterable[str]) -> dict[str, int]:
        """The numbers of the trials with these digests, by digest; the others are left out."""
        return {digest: int(self.numbers[row]) for digest, row in self.places(digests).items()}

    def _with(self, columns: Mapping[str, Column]) -> Scored:
        both = ChainMap(dict(columns), self.columns)  # type: ignore[arg-type]  # the second is only read
        return replace(self, columns=both)


def column_of(values: Sequence[Value | None]) -> Column:
    """A column of values; None where one is unknown."""
    words = tuple(dict.fromkeys(value.source if value else "" for value in values)) or ("",)
    return Column(
        np.array([np.nan if value is None else value.value for value in values], dtype=float),
        np.array([np.nan if v is None or v.error is None else v.error for v in values], dtype=np.float32),
        np.array([words.index(value.source if value else "") for value in values], dtype=np.uint8),
        words,
    )


def _replaced(column: Column, found: Mapping[int, Value]) -> Column:
    values, errors, sources = column.values.copy(), column.errors.copy(), column.sources.copy()
    words = list(column.words)
    for row, value in found.items():
        if value.source not in words:
            words.append(value.source)
        values[row] = value.value
        errors[row] = np.nan if value.error is None else value.error
        sources[row] = words.index(value.source)
    return Column(values, errors, sources, tuple(words))
