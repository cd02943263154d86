"""The plane of two quantities: the staircase, other members of the study's front, dominated trials."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from dashboards.facts.quantities import Quantity
from nas.pareto import nondominated
from nas.study.significance import tied
from nas.study.trial import Trial, Value


@dataclass(frozen=True, kw_only=True)
class Point:
    """One network in the plane of two quantities, by its best known numbers: measured, else predicted.

    `values` are those of the study's objectives. `tied` says that the next point down the staircase, which
    is better in the other quantity, is no worse in quality as far as the scores can tell.
    """

    digest: str
    number: int
    one_line: str
    x: Value
    y: Value
    values: Mapping[str, Value] = field(default_factory=dict)
    tied: bool = False
    finalist: bool = False

    @property
    def is_predicted(self) -> bool:
        """Whether a coordinate is predicted only."""
        return self.x.is_predicted or self.y.is_predicted


@dataclass(frozen=True)
class Cloud:
    """Many points by trial number, without details, as the search knew them: `predicted` says which were."""

    numbers: tuple[int, ...] = ()
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    predicted: tuple[bool, bool] = (False, False)


@dataclass(frozen=True, kw_only=True)
class FrontFacts:
    """The plane of two quantities.

    `front` is not dominated in these two, sorted from the best `x` on. `other_members` are dominated here but
    belong to the study's front because of another objective. `outdone` ones are not dominated as predicted,
    but as measured. `objectives` are those of the study.
    """

    x: Quantity
    y: Quantity
    front: tuple[Point, ...] = ()
    other_members: tuple[Point, ...] = ()
    outdone: tuple[Point, ...] = ()
    dominated: Cloud = Cloud()
    objectives: tuple[Quantity, ...] = ()

    @property
    def members(self) -> tuple[Point, ...]:
        """All points with details."""
        return (*self.front, *self.other_members, *self.outdone)

    @property
    def ties(self) -> int:
        """How many steps of the staircase are within noise."""
        return sum(point.tied for point in self.front)


def front_facts(
    trials: Sequence[Trial],
    x: Quantity,
    y: Quantity,
    *,
    describe: Callable[[Trial], str],
    measured: Mapping[str, Mapping[str, Value]] | None = None,
    members: Collection[int] = (),
    finalists: Collection[str] = (),
    objectives: Sequence[Quantity] = (),
) -> FrontFacts:
    """The plane of `x` and `y` for complete trials of distinct architectures.

    `members` are the numbers of trials on the study's front; `describe` writes an architecture in one line.
    What was `measured`, by digest and name, replaces what the search predicted. As in `Study.front`, points
    are compared with those of which as much was measured, and the others stay.
    """
    shown = [trial for trial in trials if x.name in trial.values and y.name in trial.values]
    xs = np.array([trial.values[x.name].value for trial in shown], dtype=float)
    ys = np.array([trial.values[y.name].value for trial in shown], dtype=float)
    kept = nondominated(np.column_stack([-xs if x.maximise else xs, -ys if y.maximise else ys]))
    asked, found = set(members), measured or {}
    points = {
        index: _point(trial, found.get(trial.digest, {}), x, y, objectives=objectives)
        for index, (trial, keep) in enumerate(zip(shown, kept, strict=True))
        if keep or trial.number in asked
    }
    points = {
        i: replace(point, one_line=describe(shown[i]), finalist=point.digest in finalists)
        for i, point in points.items()
    }
    left = _undominated(points, x, y)
    stairs = sorted(left, key=lambda i: points[i].x.value * (-1 if x.maximise else 1))
    dominated = [i for i in range(len(shown)) if i not in points]
    return FrontFacts(
        x=x,
        y=y,
        front=_marked([points[i] for i in stairs], x, y),
        other_members=tuple(point for i, point in points.items() if i not in left and not kept[i]),
        outdone=tuple(point for i, point in points.items() if i not in left and kept[i]),
        dominated=_cloud([shown[i] for i in dominated], x, y),
        objectives=tuple(objectives),
    )


def _cloud(trials: Sequence[Trial], x: Quantity, y: Quantity) -> Cloud:
    xs, ys = ([trial.values[of.name] for trial in trials] for of in (x, y))
    return Cloud(
        tuple(trial.number for trial in trials),
        tuple(float(value.value) for value in xs),
        tuple(float(value.value) for value in ys),
        (any(value.is_predicted for value in xs), any(value.is_predicted for value in ys)),
    )


def _undominated(points: Mapping[int, Point], x: Quantity, y: Quantity) -> set[int]:
    """Those that none dominates of which as much was measured."""
    alike: dict[tuple[bool, bool], list[int]] = {}
    for index, point in points.items():
        alike.setdefault((point.x.is_predicted, point.y.is_predicted), []).append(index)
    signs = -1 if x.maximise else 1, -1 if y.maximise else 1
    left = set()
    for group in alike.values():
        costs = [(points[i].x.value * signs[0], points[i].y.value * signs[1]) for i in group]
        left |= {i for i, keep in zip(group, nondominated(costs), strict=True) if keep}
    return left


def _point(
    trial: Trial, measured: Mapping[str, Value], x: Quantity, y: Quantity, *, objectives: Sequence[Quantity]
) -> Point:
    known = {**trial.values, **measured}
    return Point(
        digest=trial.digest,
        number=trial.number,
        one_line="",
        x=known[x.name],
        y=known[y.name],
        values={of.name: known[of.name] for of in objectives if of.name in known},
    )


def _marked(stairs: list[Point], x: Quantity, y: Quantity) -> tuple[Point, ...]:
    """The staircase with its ties: the next point of lower quality differs by no more than the error."""
    if not (x.scored or y.scored):
        return tuple(stairs)
    best_first = stairs if x.scored else stairs[::-1]

    def score(point: Point) -> Value:
        return point.x if x.scored else point.y

    pairs = pairwise(best_first)
    marks = [tied(score(better), score(worse)) for better, worse in pairs]
    marked = [replace(p, tied=mark) for p, mark in zip(best_first, [*marks, False], strict=False)]
    return tuple(marked if x.scored else marked[::-1])
