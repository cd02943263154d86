"""The record of a search: which candidates were proposed, and what was heard of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas.pareto import in_logarithms, signs_of
from nas.strategies.surrogate.encoding import Encoding, Rows
from nas.strategies.surrogate.heard import Heard
from nas.study.seed import Seed
from nas.study.trial import Trial, TrialState, Value
from search_spaces.language.genotype import Genotype

Array = NDArray[np.float64]


class Outcomes:
    """Candidates by trial number; `goals` gives, per objective, its name and whether it is maximised.

    A goal that is computed of the architecture is a cost: it has no error, and what counts are factors. So
    its values are heard in logarithms, unless one of them is zero or they have both signs.
    """

    def __init__(self, encoding: Encoding, goals: Sequence[tuple[str, bool]]) -> None:
        self._encoding, self._goals = encoding, goals
        self._told: dict[int, _Told] = {}
        self._refined: dict[int, _Told] = {}
        self._awaited: dict[int, Rows] = {}
        self._times: Counter[bytes] = Counter()
        self._lessons: list[_Told] = []
        self._collections: dict[str, Heard] = {}  # made since the last outcome, by what they are of
        self._computed = np.zeros(len(goals), bool)
        self._least, self._most = np.full(len(goals), math.inf), np.full(len(goals), -math.inf)

    @property
    def lessons(self) -> int:
        """How many candidates of other studies there are to learn from."""
        return len(self._lessons)

    def inform(self, computed: Collection[str]) -> None:
        """Hear, before all trials, which goals are computed of an architecture."""
        self._computed = np.array([name in computed for name, _ in self._goals], bool)

    def learn_from(self, seeds: Iterable[Seed]) -> None:
        """Values of other studies, to be learned from beside those of this one."""
        self._collections.clear()
        self._lessons = [
            self._noted(
                _Told(
                    self._encoding.row(seed.genotype),
                    True,
                    *self._numbers(seed.values),
                    [name in seed.unlike for name, _ in self._goals],
                    [None for _ in self._goals],
                )
            )
            for seed in seeds
            if seed.values
        ]

    def await_trial(self, number: int, genotype: Genotype) -> None:
        """A candidate was proposed, and will have an outcome."""
        self._awaited[number] = self._encoding.row(genotype)
        self._times[self._awaited[number].tobytes()] += 1

    def move(self, before: Genotype, after: Genotype) -> None:
        """The newest of the awaited candidates with the one genotype has another."""
        row = self._encoding.row(before)
        for number in reversed(self._awaited):
            if np.array_equal(self._awaited[number], row):
                self._forget(number)
                self.await_trial(number, after)
                return

    def tell(self, trial: Trial) -> None:
        """A candidate has an outcome; that of one which is a repeat is known."""
        self._forget(trial.number)
        row = self._encoding.row(trial.genotype)
        self._times[row.tobytes()] += 1
        if trial.reused is not None:
            return
        self._told[trial.number] = self._of(trial)
        self._collections.clear()

    def refine(self, trial: Trial) -> None:
        """What was told of a candidate is known better now."""
        if trial.number in self._told:
            self._refined[trial.number] = self._of(trial)
            self._collections.clear()

    def heard(self) -> Heard:
        """All outcomes, in the order of the trials' numbers; values are to be minimised."""
        return self._kept("heard", self._newest)

    def learned(self) -> Heard:
        """The outcomes, and before them what is known from other studies, with numbers below 0."""
        return (
            self._kept("learned", lambda: self._with_lessons(self._newest()))
            if self._lessons
            else self.heard()
        )

    def first_learned(self) -> Heard:
        """The same as first told: what depends on the set of candidates alone, however they were refined."""
        return (
            self._kept("first", lambda: self._with_lessons(self._told)) if self._refined else self.learned()
        )

    def _kept(self, which: str, outcomes: Callable[[], Mapping[int, _Told]]) -> Heard:
        """A collection, which is the same until another outcome is heard."""
        if which not in self._collections:
            self._collections[which] = self._collected(outcomes())
        return self._collections[which]

    def _newest(self) -> dict[int, _Told]:
        return {**self._told, **self._refined}

    def _with_lessons(self, outcomes: Mapping[int, _Told]) -> dict[int, _Told]:
        others = range(-len(self._lessons), 0)
        return {**dict(zip(others, self._lessons, strict=True)), **outcomes}

    def _of(self, trial: Trial) -> _Told:
        row, complete = self._encoding.row(trial.genotype), trial.state is TrialState.COMPLETE
        known = [trial.values.get(name) for name, _ in self._goals]
        samples = [np.array(value.kept_samples) if value and value.samples else None for value in known]
        return self._noted(
            _Told(row, complete, *self._numbers(trial.values), [False] * len(self._goals), samples)
        )

    def _noted(self, told: _Told) -> _Told:
        """The same, whose values are in the range of all."""
        self._least = np.fmin(self._least, told.values)
        self._most = np.fmax(self._most, told.values)
        return told

    def _collected(self, outcomes: Mapping[int, _Told]) -> Heard:
        numbers = sorted(outcomes)
        told = [outcomes[number] for number in numbers]
        shape = (len(told), len(self._goals))
        values = np.array([t.values for t in told], dtype=float).reshape(shape)
        return Heard(
            np.array(numbers, dtype=np.int64),
            np.array([t.row for t in told], dtype=np.int16).reshape(len(told), len(self._encoding.genes)),
            np.array([t.scored for t in told], dtype=bool),
            in_logarithms(values, np.where(self._computed, signs_of(self._least, self._most), 0)),
            np.where(self._computed, 0, np.array([t.errors for t in told], dtype=float).reshape(shape)),
            np.array([t.unlike for t in told], dtype=bool).reshape(shape),
            _table([t.samples for t in told], shape),
        )

    def _numbers(self, values: Mapping[str, Value]) -> tuple[list[float], list[float]]:
        """Values to be minimised, and errors, in the order of the goals."""
        known = [values.get(name) for name, _ in self._goals]
        signs = [-1.0 if maximised else 1.0 for _, maximised in self._goals]
        return (
            [math.nan if v is None else sign * v.value for v, sign in zip(known, signs, strict=True)],
            [0.0 if v is None else v.error or 0.0 for v in known],
        )

    def awaited(self) -> Rows:
        """The rows of candidates without an outcome, (N, G), in the order of the trials' numbers."""
        rows = [self._awaited[number] for number in sorted(self._awaited)]
        return np.array(rows, dtype=np.int16).reshape(len(rows), len(self._encoding.genes))

    def is_new(self, row: Rows) -> bool:
        """Whether nobody has proposed this row."""
        return row.tobytes() not in self._times

    def new(self, rows: Rows) -> NDArray[np.int64]:
        """The indices of rows that nobody has proposed, each once."""
        found: dict[bytes, int] = {}
        for index, row in enumerate(rows):
            if self.is_new(row):
                found.setdefault(row.tobytes(), index)
        return np.array(list(found.values()), dtype=np.int64)

    def _forget(self, number: int) -> None:
        row = self._awaited.pop(number, None)
        if row is not None:
            self._times[row.tobytes()] -= 1
            if not self._times[row.tobytes()]:
                del self._times[row.tobytes()]


class _Told(NamedTuple):
    """What is kept of a trial; values are to be minimised."""

    row: Rows
    scored: bool
    values: list[float]
    errors: list[float]
    unlike: list[bool]
    samples: list[Array | None]


def _table(samples: Sequence[Sequence[Array | None]], shape: tuple[int, int]) -> NDArray[np.object_] | None:
    """Samples by candidate and goal; None where nobody has any."""
    if not any(mine is not None for row in samples for mine in row):
        return None
    table = np.empty(shape, object)
    for place in np.ndindex(*shape):
        table[place] = samples[place[0]][place[1]]
    return table
