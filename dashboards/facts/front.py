"""The plane of two quantities: the staircase, other members of the study's front, dominated trials."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from dashboards.facts.density import DENSE, Density, density_of
from dashboards.facts.quantities import Quantity
from dashboards.facts.scored import Scored
from nas.pareto import nondominated, nondominated_mask
from nas.study.significance import tied
from nas.study.trial import Trial, Value

Logarithmic: TypeAlias = "tuple[bool | None, bool | None]"
"""Whether the axes are logarithmic; None for those whose range decides."""


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
    """Many points by trial number, without details: `predicted` says of which axes any are predicted."""

    numbers: tuple[int, ...] = ()
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    predicted: tuple[bool, bool] = (False, False)


@dataclass(frozen=True, kw_only=True)
class FrontFacts:
    """The plane of two quantities.

    `front` is not dominated in these two, sorted from the best `x` on. `other_members` are dominated here but
    belong to the study's front because of another objective. `outdone` ones are dominated only as measured,
    and belong to no front any more. Of very many dominated points there is the `density` in place of the
    points. `objectives` are those of the study, `logarithmic` says which axes are to be so, where somebody
    said it.
    """

    x: Quantity
    y: Quantity
    front: tuple[Point, ...] = ()
    other_members: tuple[Point, ...] = ()
    outdone: tuple[Point, ...] = ()
    dominated: Cloud = Cloud()
    density: Density | None = None
    objectives: tuple[Quantity, ...] = ()
    logarithmic: Logarithmic = (None, None)

    @property
    def members(self) -> tuple[Point, ...]:
        """All points with details."""
        return (*self.front, *self.other_members, *self.outdone)

    @property
    def ties(self) -> int:
        """How many steps of the staircase are within noise."""
        return sum(point.tied for point in self.front)


def front_facts(
    trials: Sequence[Trial] | Scored,
    x: Quantity,
    y: Quantity,
    *,
    describe: Callable[[Trial], str],
    measured: Mapping[str, Mapping[str, Value]] | None = None,
    members: Collection[int] = (),
    former: Collection[int] = (),
    finalists: Collection[str] = (),
    objectives: Sequence[Quantity] = (),
    logarithmic: Logarithmic = (None, None),
    corrected: Scored | None = None,
) -> FrontFacts:
    """The plane of `x` and `y` for networks that were scored, each once: as columns, or complete trials.

    `members` are the numbers of trials on the study's front, `former` those that left it as they were
    measured; `describe` writes an architecture in one line. What was `measured`, by digest and name, replaces
    what the search predicted; `corrected` are the same networks with all of it in place. As in `Study.front`,
    points are compared with those of which as much was measured, and the others stay.
    """
    scored = trials if isinstance(trials, Scored) else Scored.of(trials)
    known = np.isfinite(scored.values(x.name)) & np.isfinite(scored.values(y.name))
    shown, drawn = scored.where(known), (corrected or scored).where(known)
    costs = shown.costs([x, y])
    on_line = {int(shown.numbers[i]) for i in np.flatnonzero(nondominated_mask(costs))}
    asked = on_line | set(shown.numbers[np.isin(shown.numbers, [*members, *former])].tolist())
    found = measured or {}
    points = {
        number: replace(
            _point(trial, found.get(trial.digest, {}), x, y, objectives=objectives),
            one_line=describe(trial),
            finalist=trial.digest in finalists,
        )
        for number, trial in shown.whole(sorted(asked)).items()
    }
    left, outdone = _undominated(points, x, y), on_line.union(former).difference(members)
    stairs = sorted(left, key=lambda i: points[i].x.value * (-1 if x.maximise else 1))
    beaten = drawn.where(~np.isin(drawn.numbers, list(points)))
    dense = len(beaten) > DENSE
    return FrontFacts(
        x=x,
        y=y,
        front=_marked([points[i] for i in stairs], x, y),
        other_members=tuple(point for i, point in points.items() if i not in left and i not in outdone),
        outdone=tuple(point for i, point in points.items() if i not in left and i in outdone),
        dominated=Cloud() if dense else _cloud(beaten, x, y),
        density=density_of(beaten.values(x.name), beaten.values(y.name), logarithmic) if dense else None,
        logarithmic=logarithmic,
        objectives=tuple(objectives),
    )


def _cloud(beaten: Scored, x: Quantity, y: Quantity) -> Cloud:
    if not len(beaten):
        return Cloud()
    columns = [beaten.columns[of.name] for of in (x, y)]
    xs, ys = (tuple(column.values.tolist()) for column in columns)
    predicted = columns[0].is_predicted, columns[1].is_predicted
    return Cloud(tuple(beaten.numbers.tolist()), xs, ys, predicted)


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
