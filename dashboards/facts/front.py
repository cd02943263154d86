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
    """One network in the plane of two quantities.

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


@dataclass(frozen=True)
class Cloud:
    """Many points by trial number, without details."""

    numbers: tuple[int, ...] = ()
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FrontFacts:
    """The plane of two quantities.

    `front` is not dominated in these two, sorted from the best `x` on. `other_members` are dominated here but
    belong to the study's front because of another objective.
    """

    x: Quantity
    y: Quantity
    front: tuple[Point, ...] = ()
    other_members: tuple[Point, ...] = ()
    dominated: Cloud = Cloud()

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
    members: Collection[int] = (),
    finalists: Collection[str] = (),
    objectives: Sequence[str] = (),
) -> FrontFacts:
    """The plane of `x` and `y` for complete trials of distinct architectures.

    `members` are the numbers of trials on the study's front; `describe` writes an architecture in one line.
    """
    shown = [trial for trial in trials if x.name in trial.values and y.name in trial.values]
    xs = np.array([trial.values[x.name].value for trial in shown], dtype=float)
    ys = np.array([trial.values[y.name].value for trial in shown], dtype=float)
    kept = nondominated(np.column_stack([-xs if x.maximise else xs, -ys if y.maximise else ys]))  # type: ignore[arg-type]
    member_numbers = set(members)
    groups: tuple[list[int], list[int], list[int]] = ([], [], [])
    for index, keep in enumerate(kept):
        groups[0 if keep else 1 if shown[index].number in member_numbers else 2].append(index)
    stairs, other_members, dominated = groups
    stairs.sort(key=lambda i: -xs[i] if x.maximise else xs[i])

    def point(index: int) -> Point:
        return _point(
            shown[index], x, y, one_line=describe(shown[index]), finalists=finalists, objectives=objectives
        )

    return FrontFacts(
        x=x,
        y=y,
        front=_marked([point(i) for i in stairs], x, y),
        other_members=tuple(map(point, other_members)),
        dominated=Cloud(
            tuple(shown[i].number for i in dominated),
            tuple(xs[dominated].tolist()) if dominated else (),
            tuple(ys[dominated].tolist()) if dominated else (),
        ),
    )


def _point(
    trial: Trial,
    x: Quantity,
    y: Quantity,
    *,
    one_line: str,
    finalists: Collection[str],
    objectives: Sequence[str],
) -> Point:
    return Point(
        digest=trial.digest,
        number=trial.number,
        one_line=one_line,
        x=trial.values[x.name],
        y=trial.values[y.name],
        values={name: trial.values[name] for name in objectives if name in trial.values},
        finalist=trial.digest in finalists,
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
