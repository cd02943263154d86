"""The trials of a search as columns that grow: some hundred bytes each, in place of kilobytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from dashboards.facts.quantities import Quantity
from dashboards.facts.scored import Column, Numbers, Rows, Scored, Whole
from nas.store.news import TrialNews
from nas.study.trial import TrialState

STATES = tuple(TrialState)
CODES = {state: code for code, state in enumerate(STATES)}
COMPLETE = CODES[TrialState.COMPLETE]
FEW = 1024
"""Rows that there is room for at first."""

MOST_SOURCES = 255
"""Different words for sources of one number; further ones share the last."""

DIGEST = "U16"


class _NumberColumn:
    """One number of every trial."""

    def __init__(self, room: int) -> None:
        self.values, self.errors = np.full(room, np.nan), np.full(room, np.nan, dtype=np.float32)
        self.sources, self.words = np.zeros(room, dtype=np.uint8), [""]
        self._codes = {"": 0}

    def grow(self, room: int) -> None:
        more = room - len(self.values)
        self.values = np.concatenate([self.values, np.full(more, np.nan)])
        self.errors = np.concatenate([self.errors, np.full(more, np.nan, dtype=np.float32)])
        self.sources = np.concatenate([self.sources, np.zeros(more, dtype=np.uint8)])

    def code(self, source: str) -> int:
        if source not in self._codes and len(self.words) < MOST_SOURCES:
            self._codes[source] = len(self.words)
            self.words.append(source)
        return self._codes.get(source, MOST_SOURCES - 1)

    def at(self, rows: Rows) -> Column:
        return Column(self.values[rows], self.errors[rows], self.sources[rows], tuple(self.words))


class TrialColumns:
    """Numbers, states and times of all trials of a search; `reasons` are those of failed ones by number.

    `fresh` are the rows of networks that were added since the front was last taken of them all, `disturbed`
    says that one of the networks before them changed or went, so that it must be taken of all again.
    """

    def __init__(self, objectives: Sequence[str]) -> None:
        self.reasons: dict[int, str] = {}
        self.fresh: list[int] = []
        self.disturbed = False
        self._most = 0
        self._objectives = objectives
        self._rows: dict[int, int] = {}
        self._latest: dict[str, int] = {}
        self._columns: dict[str, _NumberColumn] = {}
        self._room = FEW
        self._numbers, self._steps = np.zeros(FEW, dtype=np.int64), np.zeros(FEW, dtype=np.int64)
        self._states, self._finished = np.zeros(FEW, dtype=np.uint8), np.full(FEW, np.nan)
        self._digests = np.zeros(FEW, dtype=DIGEST)
        self._live, self._counts = np.zeros(FEW, dtype=np.bool_), np.zeros(FEW, dtype=np.bool_)
        self._further = np.zeros(FEW, dtype=np.bool_)

    def take(self, news: Iterable[TrialNews]) -> list[int]:
        """Take in what was saved; the numbers of complete trials that lack an objective, left out."""
        lacking = []
        for each in news:
            if each.state is TrialState.COMPLETE and not all(n in each.numbers for n in self._objectives):
                lacking.append(each.number)
                continue
            self._take(each, self._row(each.number))
        return lacking

    def _row(self, number: int) -> int:
        row = self._rows.setdefault(number, len(self._rows))
        if row >= self._room:
            self._grow(2 * self._room)
        return row

    def _grow(self, room: int) -> None:
        for name in ("_numbers", "_steps", "_states", "_digests", "_live", "_counts", "_further"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.zeros(room - len(old), dtype=old.dtype)]))
        self._finished = np.concatenate([self._finished, np.full(room - self._room, np.nan)])
        for column in self._columns.values():
            column.grow(room)
        self._room = room

    def _take(self, each: TrialNews, row: int) -> None:
        self._numbers[row], self._steps[row] = each.number, min(each.steps, 2**62)
        self._states[row], self._counts[row] = CODES[each.state], each.counts
        self._finished[row] = np.nan if each.finished is None else each.finished
        self._digests[row], self._further[row] = each.digest, each.candidate is not None
        self._drop(row)
        self.reasons.pop(each.number, None)
        if each.state is TrialState.FAILED:
            self.reasons[each.number] = each.reason or "no reason is on record"
        if each.state is not TrialState.COMPLETE:
            return
        for name, (value, error, source) in each.numbers.items():
            column = self._columns.get(name)
            if column is None:
                column = self._columns[name] = _NumberColumn(self._room)
            column.values[row], column.errors[row] = value, error
            column.sources[row] = column.code(source)
        if each.reused is None:
            self._replace(each, row)

    def _replace(self, each: TrialNews, row: int) -> None:
        """Of trials of one architecture, or of a candidate that was trained further, the last one counts."""
        former = self._latest.get(each.digest, row)
        if self._live[former] and self._numbers[former] > each.number:
            return
        self._drop(former)
        self._live[row] = True
        self._latest[each.digest] = row
        self.disturbed |= each.steps > self._most > 0
        self._most = max(self._most, each.steps)
        self.fresh.append(row)

    def _drop(self, row: int) -> None:
        if self._live[row]:
            self._live[row], self.disturbed = False, True

    def leave_out(self, numbers: Iterable[int]) -> None:
        """Count these trials no more: they cannot be read."""
        for number in numbers:
            self._drop(self._rows[number])

    def compared(self, members: Iterable[int]) -> Rows:
        """The rows among which the front is: all, or where nothing else changed `members` and fresh ones."""
        size = len(self._rows)
        live = self._live[:size]
        if self.disturbed:
            self._most = int(self._steps[:size][live].max()) if live.any() else 0
            rows = np.flatnonzero(live & (self._steps[:size] == self._most))
        else:
            some = np.array([*(self._rows[number] for number in members), *self.fresh], dtype=np.int64)
            rows = some[self._steps[some] == self._most]
        self.fresh, self.disturbed = [], False
        return rows

    def numbers_and_costs(self, rows: Rows, quantities: Sequence[Quantity]) -> tuple[Rows, Numbers]:
        """The numbers of trials, and their values of quantities turned so that less is better."""
        signs = [-1.0 if of.maximise else 1.0 for of in quantities]
        known = [
            self._columns[of.name].values[rows] if of.name in self._columns else None for of in quantities
        ]
        columns = [np.zeros(len(rows)) if v is None else s * v for v, s in zip(known, signs, strict=True)]
        return self._numbers[rows], np.column_stack(columns)

    def scored(self, whole: Whole) -> Scored:
        """The architectures of the most training steps that any has."""
        size = len(self._rows)
        live = self._live[:size]
        most = self._steps[:size][live].max() if live.any() else 0
        rows = np.flatnonzero(live & (self._steps[:size] == most))
        order = rows[np.argsort(self._numbers[rows], kind="stable")]
        columns = {name: column.at(order) for name, column in self._columns.items()}
        known = {name: column for name, column in columns.items() if np.isfinite(column.values).any()}
        return Scored(self._numbers[order], self._digests, known, whole, order)

    @property
    def distinct(self) -> int:
        """Architectures that were scored."""
        return int(self._live.sum())

    @property
    def counted(self) -> int:
        """Trials that count towards the plan."""
        return int(self._counts.sum())

    def states(self) -> dict[str, int]:
        """The number of candidates by state."""
        size = len(self._rows)
        found = np.bincount(self._states[:size][~self._further[:size]], minlength=len(STATES))
        return {state.value: int(n) for state, n in zip(STATES, found, strict=True) if n}

    def finished_times(self) -> Numbers:
        """When trials that count were finished, in the order of their numbers."""
        size = len(self._rows)
        rows = np.flatnonzero(self._counts[:size] & np.isfinite(self._finished[:size]))
        times: Numbers = self._finished[rows[np.argsort(self._numbers[rows], kind="stable")]]
        return times
