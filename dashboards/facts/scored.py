"""Networks that were scored, as columns of numbers: what planes are made of, however many there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dashboards.facts.quantities import Quantity
from nas.study.trial import PREDICTED, Trial, Value

Numbers: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
Whole: TypeAlias = Callable[[Iterable[int]], Mapping[int, Trial]]
"""Whole trials by their numbers; those that cannot be read are left out."""


@dataclass(frozen=True)
class Column:
    """One number of every network: NaN where it is unknown; `sources` are indices into `words`."""

    values: Numbers
    errors: NDArray[np.float32]
    sources: NDArray[np.uint8]
    words: tuple[str, ...] = ("",)

    def where(self, mask: Mask) -> Column:
        """Of some networks only."""
        return Column(self.values[mask], self.errors[mask], self.sources[mask], self.words)

    @property
    def is_predicted(self) -> bool:
        """Whether any of them is predicted."""
        known = np.unique(self.sources[np.isfinite(self.values)])
        return any(self.words[code].startswith(PREDICTED) for code in known)


@dataclass(frozen=True)
class Scored:
    """Networks by trial `numbers` and `digests`, each architecture once; `whole` reads trials themselves."""

    numbers: NDArray[np.int64]
    digests: NDArray[np.str_]
    columns: Mapping[str, Column] = field(default_factory=dict)
    whole: Whole = field(default=lambda numbers: {}, compare=False)

    def __len__(self) -> int:
        return len(self.numbers)

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
        columns = {name: column.where(mask) for name, column in self.columns.items()}
        return Scored(self.numbers[mask], self.digests[mask], columns, self.whole)

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
        return replace(self, columns={**self.columns, name: column})

    def corrected(self, measured: Mapping[str, Mapping[str, Value]], names: Iterable[str]) -> Scored:
        """The same with what was measured, by digest and name, in place of what was predicted."""
        if not measured or not len(self):
            return self
        rows = {str(self.digests[i]): int(i) for i in np.flatnonzero(np.isin(self.digests, list(measured)))}
        columns = dict(self.columns)
        for name in names:
            found = {
                rows[digest]: known[name]
                for digest, known in measured.items()
                if digest in rows and name in known
            }
            if found and name in columns:
                columns[name] = _replaced(columns[name], found)
        return replace(self, columns=columns)


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
