"""A front as a reader looks at it: which quantities lie on the axes, and what a network may cost.

facts = explore(reading, View(x=decode, y=quality, bounds={"decode_ms": 3.0}))
facts.best          # the best network under the bounds
facts.plane         # the front of those that keep them, and what it beats
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dashboards.facts.baselines import BaselineFacts
from dashboards.facts.front import Cloud, FrontFacts, Logarithmic, Point, front_facts
from dashboards.facts.quantities import Quantity
from dashboards.facts.reading import Known, Reading
from dashboards.facts.replay import front_of, until
from dashboards.facts.rescoring import Rescored, by_table
from dashboards.facts.scored import Mask, Numbers, Scored
from nas.pareto import nondominated_mask
from nas.study.trial import Trial, Value

OUTSIDE = 3000
"""Networks beyond the bounds of which so many are drawn, evenly spaced by their numbers."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What is looked at: two or three axes, colour, size, and the worst allowed values (`bounds`) by name.

    With `after` it is looked at as the search knew it after the trial of this number.
    """

    x: Quantity
    y: Quantity
    z: Quantity | None = None
    colour: Quantity | None = None
    size: Quantity | None = None
    logarithmic: Logarithmic = (None, None)
    bounds: Mapping[str, float] = field(default_factory=dict)
    picked: int | None = None
    after: int | None = None

    @property
    def by_table(self) -> View:
        """The same of networks that a table prices; of bounds in several scenarios the first counts."""
        bounds: dict[str, float] = {}
        for name, bound in self.bounds.items():
            bounds.setdefault(by_table(Quantity(name)).name, bound)
        third, colour, size = (of and by_table(of) for of in (self.z, self.colour, self.size))
        x, y = by_table(self.x), by_table(self.y)
        return replace(self, x=x, y=y, z=third, colour=colour, size=size, bounds=bounds)

    @property
    def shown(self) -> tuple[Quantity, ...]:
        """Every quantity that is drawn, each once."""
        asked = (self.x, self.y, self.z, self.colour, self.size)
        return tuple(dict.fromkeys(of for of in asked if of is not None))


@dataclass(frozen=True)
class BaselinePoint:
    """A baseline in the plane: its name, and what it costs and scores."""

    name: str
    x: Value
    y: Value
    steps: int


@dataclass(frozen=True)
class Overlay:
    """The front of another study in the same plane."""

    name: str
    plane: FrontFacts


@dataclass(frozen=True, kw_only=True)
class ExploreFacts:
    """What is seen.

    `plane` is that of the networks that keep all bounds; `outside` are some of the others (x, y). `space` is
    the front in three quantities, where three were asked for, and `cloud` some of what it beats. `best` is
    the best network under the bounds in `best_of`; `knee` the number of the point where the front bends most;
    `picked` the one that a reader chose, wherever it lies. `last` is the front of all trials, where an
    earlier one is looked at, `on_front` how many networks are on the front in all objectives.
    """

    view: View
    plane: FrontFacts
    inside: int
    known: int
    best_of: Quantity
    best: Point | None = None
    picked: Point | None = None
    knee: int | None = None
    outside: tuple[tuple[float, float], ...] = ()
    space: tuple[Point, ...] = ()
    cloud: tuple[tuple[float, float, float], ...] = ()
    baselines: tuple[BaselinePoint, ...] = ()
    overlays: tuple[Overlay, ...] = ()
    last: FrontFacts | None = None
    on_front: int = 0


def explore(
    reading: Reading,
    view: View,
    *,
    priced: Rescored | None = None,
    baselines: BaselineFacts | None = None,
    overlays: Iterable[Reading] = (),
) -> ExploreFacts:
    """Look at a study; `priced` are its networks with the latencies of another table than the search's."""
    every = reading.known if priced is None else Known.of(priced.scored, priced.values)
    known = until(every, view.after)
    objectives = reading.objectives
    if priced is not None:
        view, objectives = view.by_table, tuple(dict.fromkeys(map(by_table, objectives)))
    best_of = next((each for each in objectives if each.scored), objectives[0])
    quantities = tuple(dict.fromkeys([*objectives, *view.shown]))
    keeps = keeping(known.corrected, view.bounds, quantities)
    inner = known.where(keeps)
    now = priced is None and view.after is None
    fronts = fronts_of(reading) if now else (front_of(known.scored, objectives), [])
    plane = _plane(reading, view, inner, fronts=fronts, objectives=objectives)
    best = best_number(inner.corrected, best_of, surely_known(view.bounds, known))
    asked = {number for number in (best, view.picked) if number is not None}
    marked = _points(reading, known.scored.whole(asked), view, quantities, known.measured)
    points = {point.number: point for point in marked}
    return ExploreFacts(
        view=view,
        plane=plane,
        inside=int(keeps.sum()),
        known=len(known.scored),
        best_of=best_of,
        best=points.get(best) if best is not None else None,
        picked=points.get(view.picked) if view.picked is not None else None,
        knee=knee_of(plane),
        outside=_sample(known.corrected.where(~keeps), view.x, view.y) if view.bounds else (),
        **_space(reading, view, inner),
        baselines=_baselines(baselines, view, reading.study.plan.evaluator == "scratch"),
        overlays=tuple(_overlays(overlays, view)) if priced is None else (),
        last=_arrived(reading, view, every.scored, quantities, kept=priced is None),
        on_front=len(fronts[0]),
    )


def _arrived(
    reading: Reading, view: View, every: Scored, quantities: Sequence[Quantity], *, kept: bool
) -> FrontFacts | None:
    """The front of all trials where an earlier one is looked at; every picture of a replay asks."""
    if view.after is None:
        return None
    if view.bounds or not kept:
        return _last(reading, view, every, quantities)
    name = f"last/{view.x.name}/{view.y.name}/{view.logarithmic}"
    return reading.kept(name, lambda: _last(reading, view, every, quantities))


def _last(reading: Reading, view: View, every: Scored, quantities: Sequence[Quantity]) -> FrontFacts:
    """The front of all trials in the plane; of what it beats, the corners, which set the axes."""
    axes = [view.x, view.y]
    inner = every.where(keeping(every, view.bounds, quantities))
    kept = inner.where(np.isin(inner.numbers, front_of(inner, axes)))
    plane = _plane(reading, view, Known.of(kept, {}), fronts=([], []), objectives=())
    values = np.column_stack([every.values(of.name) for of in axes])
    values = values[np.isfinite(values).all(axis=1)]
    if not len(values):
        return plane
    x, y = np.stack([values.min(axis=0), values.max(axis=0)]).T.tolist()
    return replace(plane, dominated=Cloud((), tuple(x), tuple(y)))


def fronts_of(reading: Reading) -> tuple[list[int], list[int]]:
    """The numbers of the members of a study's front, and of those that left it as they were measured."""
    members = [trial.number for trial in reading.members]
    kept = set(members)
    return members, [trial.number for trial in reading.predicted_members if trial.number not in kept]


def keeping(scored: Scored, bounds: Mapping[str, float], quantities: Sequence[Quantity]) -> Mask:
    """Which networks keep all bounds; one of which a number is unknown does not."""
    worse = {of.name: of.maximise for of in quantities}
    keeps = np.ones(len(scored), dtype=bool)
    for name, bound in bounds.items():
        values = scored.values(name)
        keeps &= values >= bound if worse.get(name, False) else values <= bound
    return keeps


def surely_known(bounds: Mapping[str, float], known: Known) -> list[int]:
    """The trials of which all bounded numbers were measured that were measured of any."""
    asked = [name for name in bounds if any(name in values for values in known.measured.values())]
    if not asked:
        return []
    return [n for d, n in known.numbers.items() if all(name in known.measured[d] for name in asked)]


def best_number(scored: Scored, of: Quantity, sure: Sequence[int] = ()) -> int | None:
    """The trial with the best value; one of the `sure` ones, where one of these has the number.

    A prediction that is too good must not win over what was measured (as in `nas.study.best.best_of`).
    """
    costs = scored.costs([of])[:, 0]
    known = np.isfinite(costs)
    among = known & np.isin(scored.numbers, sure) if len(sure) else known
    rows = np.flatnonzero(among if among.any() else known)
    return int(scored.numbers[rows[np.argmin(costs[rows])]]) if len(rows) else None


def knee_of(plane: FrontFacts) -> int | None:
    """The trial at the knee of a front: the point farthest from the line between its ends.

    Axes are scaled to the front's range, in logarithms where its values spread that far (Das 1999, "On
    characterizing the knee of the Pareto curve").
    """
    if len(plane.front) < 3:
        return None
    points = np.column_stack([_unit(plane, "x"), _unit(plane, "y")])
    (x0, y0), (x1, y1) = points[0], points[-1]
    length = math.hypot(x1 - x0, y1 - y0)
    if not length:
        return None
    distances = ((x1 - x0) * (y0 - points[:, 1]) - (x0 - points[:, 0]) * (y1 - y0)) / length
    # less is better on both axes by now, so that the knee lies on the side of the origin
    far = int(np.argmax(distances))
    return plane.front[far].number if distances[far] > 0 else None


def _unit(plane: FrontFacts, name: str) -> Numbers:
    """Coordinates of the front as costs between 0 and 1."""
    values = np.array([getattr(point, name).value for point in plane.front])
    if plane.logarithmic[0 if name == "x" else 1] and values.min() > 0:
        values = np.log(values)
    costs = -values if getattr(plane, name).maximise else values
    spread = np.ptp(costs)
    unit: Numbers = (costs - costs.min()) / spread if spread else np.zeros(len(costs))
    return unit


def _plane(
    reading: Reading,
    view: View,
    inside: Known,
    *,
    fronts: tuple[Sequence[int], Sequence[int]],
    objectives: Sequence[Quantity],
) -> FrontFacts:
    """The plane; `fronts` are members of the front in all objectives, and former ones, by number."""
    quantities = tuple(dict.fromkeys([*objectives, *view.shown]))
    more = {objective.name for objective in objectives} - {view.x.name, view.y.name}
    members, former = fronts if more else ([], [])
    return front_facts(
        inside.scored,
        view.x,
        view.y,
        describe=reading.one_line,
        measured=inside.measured,
        members=members,
        former=former,
        finalists=set(reading.finalists),
        objectives=quantities,
        logarithmic=view.logarithmic,
        corrected=inside.corrected,
    )


def _points(
    reading: Reading,
    trials: Mapping[int, Trial],
    view: View,
    quantities: Sequence[Quantity],
    measured: Mapping[str, Mapping[str, Value]],
) -> list[Point]:
    """Some networks with all that is drawn or searched for, wherever they lie."""
    points = []
    for number, trial in trials.items():
        known = {**trial.values, **measured.get(trial.digest, {})}
        if view.x.name in known and view.y.name in known:
            points.append(
                Point(
                    digest=trial.digest,
                    number=number,
                    one_line=reading.one_line(trial),
                    x=known[view.x.name],
                    y=known[view.y.name],
                    values={of.name: known[of.name] for of in quantities if of.name in known},
                    finalist=trial.digest in reading.finalists,
                )
            )
    return points


def _space(reading: Reading, view: View, inside: Known) -> dict[str, Any]:
    """The front in three quantities, and some of what it beats."""
    if view.z is None:
        return {}
    axes = [view.x, view.y, view.z]
    known = inside.corrected
    complete: Mask = np.array(np.isfinite(known.costs(axes)).all(axis=1))
    known = known.where(complete)
    kept = nondominated_mask(known.costs(axes))
    numbers = known.numbers[kept].tolist() if len(known) else []
    quantities = list(dict.fromkeys([*reading.objectives, *view.shown]))
    points = _points(reading, known.whole(numbers), view, quantities, inside.measured)
    beaten = known.where(~kept) if len(known) else known
    return {"space": tuple(points), "cloud": _sample(beaten, *axes)}


def _sample(scored: Scored, *axes: Quantity) -> tuple[Any, ...]:
    """Coordinates of up to `OUTSIDE` networks, evenly spaced by their numbers."""
    values = np.column_stack([scored.values(of.name) for of in axes])
    values = values[np.isfinite(values).all(axis=1)]
    step = -(-len(values) // OUTSIDE) or 1
    return tuple(tuple(row) for row in values[::step].tolist())


def _baselines(facts: BaselineFacts | None, view: View, from_scratch: bool) -> tuple[BaselinePoint, ...]:
    """Baselines that can be compared: trained from scratch, so not with scores by shared weights."""
    if facts is None or (not from_scratch and (view.x.scored or view.y.scored)):
        return ()
    points = []
    for network in facts.baselines:
        known = {**network.costs, facts.quality.name: network.rungs[network.last]}
        if view.x.name in known and view.y.name in known:
            points.append(BaselinePoint(network.name, known[view.x.name], known[view.y.name], network.last))
    return tuple(points)


def _overlays(readings: Iterable[Reading], view: View) -> Iterable[Overlay]:
    for other in readings:
        plain = replace(view, bounds={}, picked=None)
        known = until(other.known, view.after)
        fronts = fronts_of(other) if view.after is None else (front_of(known.scored, other.objectives), [])
        plane = _plane(other, plain, known, fronts=fronts, objectives=other.objectives)
        yield Overlay(other.study.name, plane)
