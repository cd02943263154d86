"""Whether anything in a space keeps the constraints of a study, and an architecture that does.

Asked before anything is trained, and again when latency tables are there. Chance finds what is not rare.
Costs that add up have an exact least and largest value over the space, which proves a bound impossible or
leads to what keeps it; weighted sums of several lead to what keeps them together. What is left is searched,
and small spaces are listed. A refusal names the least value that there is.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Sequence
from functools import cached_property
from random import Random
from typing import Any

from foundation.errors import EvaluationFailed, IllegalArchitecture, SpaceError
from foundation.text import listed
from nas.objectives.base import CostModel, objectives
from nas.study.constraints import COMPARE, Constraint
from nas.study.plan_objectives import is_decoder_space
from search_spaces.language.feasible import Nearest, nearest
from search_spaces.language.genotype import Genotype
from search_spaces.language.repair import repaired
from search_spaces.language.space import Space
from search_spaces.network.additive_cost import EXACT, Total
from search_spaces.network.least_cost import AdditiveCosts, additive_costs

MIXES = 32
"""Weighted sums of the constrained costs whose least is looked at."""

FINDS = 300
"""Random architectures among which one that keeps the constraints is looked for first."""

SURELY = 1e-4
"""By how much, relatively, the least weighted sum must be above that of the bounds to prove that none is."""

DESCENTS = 3
"""Ways downhill that may end no lower before one bound alone is given up."""


def require_satisfiable(space: Space, constraints: Sequence[Constraint], cost_model: CostModel) -> None:
    """Raise `SpaceError` where nothing keeps the constraints that can be computed already."""
    _check_alone(constraints)
    computable = [c for c in constraints if cost_model.ready(objectives[c.name])]
    if computable:
        find_allowed(space, computable, cost_model)


def find_allowed(space: Space, constraints: Sequence[Constraint], cost_model: CostModel) -> Genotype:
    """An architecture that is allowed and keeps the constraints.

    Raises:
        SpaceError: there is none, or none was found; the message names the least values.
    """
    bounds = _Bounds(space, constraints, cost_model)
    bounds.check_parts()
    dice = Random("satisfiable")
    for _ in range(FINDS):
        genotype, spec = space.draw(lambda path, labels: dice.choice(labels))
        if not any(bounds.violation(spec)):
            return genotype
    alone = len(constraints) == 1 and not space.constraints  # then there are hardly any dead ends
    patience = {"patience": DESCENTS} if alone else {}
    found = nearest(space, bounds.violation, bounds.extremes(), **patience)
    if found.allowed:
        return found.genotype
    raise SpaceError(bounds.refusal(found))


def _check_alone(constraints: Sequence[Constraint]) -> None:
    """Raise `SpaceError` for constraints that no number keeps, whatever the space."""
    for constraint in constraints:
        counted = objectives[constraint.name].of_decoders  # one of a user's own may be negative
        if counted and constraint.is_upper and not COMPARE[constraint.sign](0.0, constraint.bound):
            raise SpaceError(f"{constraint}: it is never below 0")
        if objectives[constraint.name].needs_table and constraint.is_upper and constraint.bound <= 0:
            raise SpaceError(f"{constraint}: nothing takes no time")
        for other in constraints:
            if other.name == constraint.name and constraint.is_upper and not other.is_upper:
                least = math.nextafter(other.bound, math.inf) if other.sign == ">" else other.bound
                if not COMPARE[constraint.sign](least, constraint.bound):
                    raise SpaceError(f"{other} and {constraint} exclude each other")


class Feasible:
    """What moves proposals that break constraints to architectures near by that keep them."""

    def __init__(self, space: Space, constraints: Sequence[Constraint], cost_model: CostModel) -> None:
        self._space, self._constraints, self._cost_model = space, constraints, cost_model
        self._bounds = _Bounds(space, constraints, cost_model)

    def near(
        self, genotype: Genotype, known: Sequence[Genotype], *, dice: Random, tried: Container[str]
    ) -> tuple[Genotype, Any]:
        """An architecture near this one that is allowed, and was not `tried` if such a one is found.

        `known` are architectures that are allowed, such as those that were scored.

        Raises:
            SpaceError: nothing keeps the constraints.
        """
        return repaired(
            self._space, genotype, [self._first, *known], self._bounds.height, dice=dice, tried=tried
        )

    @cached_property
    def _first(self) -> Genotype:
        return find_allowed(self._space, self._constraints, self._cost_model)


class _Bounds:
    """The constraints as numbers, and the best value of each that was seen."""

    def __init__(self, space: Space, constraints: Sequence[Constraint], cost_model: CostModel) -> None:
        self.space, self.constraints, self.cost_model = space, constraints, cost_model
        self.best: list[float | None] = [None] * len(constraints)

    def values(self, spec: Any) -> list[float]:
        """The constrained numbers of an architecture."""
        names = dict.fromkeys(constraint.name for constraint in self.constraints)
        known = {name: objectives[name].of_networks(self.cost_model)([spec])[0] for name in names}
        return [known[constraint.name] for constraint in self.constraints]

    def total(self, constraint: Constraint) -> Total:
        return objectives[constraint.name].of_networks(self.cost_model)

    def adding(self, totals: Sequence[Total]) -> AdditiveCosts | None:
        """The costs as sums over the parts of decoders; None where they are none, or these no decoders."""
        if not is_decoder_space(self.space):
            return None
        try:
            return additive_costs(self.space, totals)
        except (EvaluationFailed, IllegalArchitecture):  # of networks too small for it, or that do not run
            return None

    def violation(self, spec: Any) -> tuple[float, ...]:
        """Broken rules of the space, broken constraints, and by how much those are broken, relatively."""
        (rules,) = self.space.broken_rules(spec)
        if rules:
            return rules, math.inf, math.inf
        try:
            values = self.values(spec)
        except IllegalArchitecture:  # the runtime of a scenario cannot run it
            return 1, math.inf, math.inf
        for i, (constraint, value) in enumerate(zip(self.constraints, values, strict=True)):
            best = self.best[i]
            self.best[i] = value if best is None else constraint.better(value, best)
        over = [c.excess(value) for c, value in zip(self.constraints, values, strict=True)]
        return rules, float(sum(o > 0 for o in over)), sum(over)

    def height(self, spec: Any) -> tuple[float, ...]:
        """Broken rules of the space, and by how much constraints are broken in all; zeros where allowed."""
        (rules,) = self.space.broken_rules(spec)
        if rules:
            return rules, math.inf
        try:
            values = self.values(spec)
        except EvaluationFailed:  # a function of a user's own
            return 0, math.inf
        except IllegalArchitecture:  # the runtime of a scenario cannot run it
            return 1, math.inf
        return 0, sum(c.excess(value) for c, value in zip(self.constraints, values, strict=True))

    def check_parts(self) -> None:
        """Raise `SpaceError` where a cost is too large for what is only a part of it, which is quickly known.

        A peak of memory takes long to predict, and the weights are part of it.
        """
        for constraint in self.constraints:
            part = objectives[constraint.name].at_least
            total = objectives[part].of_networks(self.cost_model) if part and constraint.is_upper else None
            alone = self.adding([total]) if total else None
            least = alone.least([1.0]) if alone else None
            if least is not None and not COMPARE[constraint.sign](least.amount, constraint.bound):
                value = _number(constraint, least.amount)
                raise SpaceError(
                    f"{constraint}: the {part} alone are at least {value} in every network of this space"
                )

    def extremes(self) -> Iterator[Genotype]:
        """Architectures of the least and largest costs, and of the least of weighted sums.

        Raises:
            SpaceError: the least value of some cost breaks its constraint.
        """
        adding: list[int] = []
        for i, constraint in enumerate(self.constraints):
            alone = self.adding([self.total(constraint)])
            least = None if alone is None else alone.least([constraint.direction])
            if least is None:
                continue
            value, best = constraint.direction * least.amount, self.best[i]
            if best is not None and constraint.better(value, best) != value:
                continue  # chance found what the sum says cannot be: it is no sum after all
            adding.append(i)
            if not COMPARE[constraint.sign](value, constraint.bound):
                reached = self._reaches(least.genotype, constraint, value)
                raise SpaceError(f"{constraint}: {_extreme(constraint, value, reached=reached)}")
            yield least.genotype
        yield from self._mixes(adding)

    def _reaches(self, genotype: Genotype, constraint: Constraint, value: float) -> bool:
        """Whether an architecture is allowed and has this value of what a constraint bounds."""
        spec = self.space.draw_genotype(genotype)
        if self.space.objection(spec) is not None:
            return False
        return math.isclose(self.total(constraint)([spec])[0], value, rel_tol=EXACT)

    def _mixes(self, adding: Sequence[int]) -> Iterator[Genotype]:
        """Of weighted sums of the costs, each in units of its bound, the least."""
        if len(adding) < 2:
            return
        chosen = [self.constraints[i] for i in adding]
        together = self.adding([self.total(constraint) for constraint in chosen])
        dice = Random("mixes")
        for _ in range(MIXES if together else 0):
            assert together is not None
            weights = [c.direction * dice.expovariate(1) / (abs(c.bound) or 1.0) for c in chosen]
            least = together.least(weights)
            if least is None:
                continue
            # what keeps all bounds has at most the weighted sum of these
            parts = [weight * c.bound for weight, c in zip(weights, chosen, strict=True)]
            if least.amount > sum(parts) + SURELY * sum(map(abs, [least.amount, *parts])):
                raise SpaceError(self._together(chosen, least.genotype, "that with the least of all"))
            yield least.genotype

    def _together(
        self, constraints: Sequence[Constraint], near: Genotype, which: str, whose: str = "of this space"
    ) -> str:
        """That nothing keeps several constraints, and what a network has that comes near."""
        spec = self.space.draw_genotype(near)
        has = listed(f"{c.name} {_number(c, self.total(c)([spec])[0])}" for c in constraints)
        return f"no network {whose} keeps {listed(map(str, constraints))} together; {which} has {has}"

    def refusal(self, found: Nearest) -> str:
        """Why nothing keeps the constraints, from what was seen."""
        whose = "of this space" if found.complete else f"among {found.tried:,} that were tried"
        known = [(c, b) for c, b in zip(self.constraints, self.best, strict=True) if b is not None]
        if not known:
            return f"{self.space.name}: none of its architectures is allowed by its own rules, {whose}"
        for constraint, best in known:
            if not COMPARE[constraint.sign](best, constraint.bound):
                return f"{constraint}: {_extreme(constraint, best, whose=whose)}"
        return self._together(self.constraints, found.genotype, "the nearest", whose)


def _extreme(
    constraint: Constraint, value: float, *, whose: str = "of this space", reached: bool = True
) -> str:
    """The least or largest value that a space has of what a constraint bounds."""
    kind = "smallest" if constraint.is_upper else "largest"
    verb = "has" if reached else "could have"
    unit = objectives[constraint.name].unit
    return f"the {kind} network {whose} {verb} {_number(constraint, value)}{f' {unit}' if unit else ''}"


def _number(constraint: Constraint, value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:,.6g}"
