"""The front of two quantities: its staircase, what else is undominated, and all that is beaten."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from dashboards.facts.quantities import Quantity
from dashboards.facts.ties import QUALITY, tied
from nas.pareto import nondominated
from nas.study.trial import Trial, Value


@dataclass(frozen=True, kw_only=True)
class Point:
    """One network in the plane of two quantities.

    `values` are those of the study's objectives. `tied` says that the next point down the staircase, which
    is better in the other quantity, is no worse in quality as far as the scores can tell.
    """

    digest: str
    number: int
    strip: str
    x: Value
    y: Value
    values: Mapping[str, Value] = field(default_factory=dict)
    tied: bool = False
    finalist: bool = False


@dataclass(frozen=True)
class Cloud:
    """Many points by trial number, without their stories."""

    numbers: tuple[int, ...] = ()
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FrontFacts:
    """The plane of two quantities.

    `front` is not dominated in these two, from the best `x` on. `elsewhere` is, but stands on the study's
    front for the sake of another objective.
    """

    x: Quantity
    y: Quantity
    front: tuple[Point, ...] = ()
    elsewhere: tuple[Point, ...] = ()
    beaten: Cloud = Cloud()

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

    `members` are the numbers of the trials on the study's front; `describe` gives the strip of a trial.
    """
    there = [trial for trial in trials if x.name in trial.values and y.name in trial.values]
    xs = np.array([trial.values[x.name].value for trial in there], dtype=float)
    ys = np.array([trial.values[y.name].value for trial in there], dtype=float)
    kept = nondominated(np.column_stack([-xs if x.maximise else xs, -ys if y.maximise else ys]))  # type: ignore[arg-type]
    wanted = set(members)

    def point(i: int) -> Point:
        trial = there[i]
        return Point(
            digest=trial.digest,
            number=trial.number,
            strip=describe(trial),
            x=trial.values[x.name],
            y=trial.values[y.name],
            values={name: trial.values[name] for name in objectives if name in trial.values},
            finalist=trial.digest in finalists,
        )

    stairs = [i for i, keep in enumerate(kept) if keep]
    stairs.sort(key=lambda i: -xs[i] if x.maximise else xs[i])
    rest = [i for i, keep in enumerate(kept) if not keep]
    elsewhere = [i for i in rest if there[i].number in wanted]
    others = set(elsewhere)
    beaten = [i for i in rest if i not in others]
    return FrontFacts(
        x=x,
        y=y,
        front=_marked([point(i) for i in stairs], x, y),
        elsewhere=tuple(map(point, elsewhere)),
        beaten=Cloud(
            tuple(there[i].number for i in beaten),
            tuple(xs[beaten].tolist()) if beaten else (),
            tuple(ys[beaten].tolist()) if beaten else (),
        ),
    )


def _marked(stairs: list[Point], x: Quantity, y: Quantity) -> tuple[Point, ...]:
    """The staircase with its ties: a tied point's neighbour of lower quality may be no worse in truth."""
    if QUALITY not in (x.name, y.name):
        return tuple(stairs)
    best_first = stairs if x.name == QUALITY else stairs[::-1]

    def score(point: Point) -> Value:
        return point.x if x.name == QUALITY else point.y

    pairs = pairwise(best_first)
    marks = [tied(score(better), score(worse)) for better, worse in pairs]
    marked = [replace(p, tied=mark) for p, mark in zip(best_first, [*marks, False], strict=False)]
    return tuple(marked if x.name == QUALITY else marked[::-1])
