"""Constraints on numbers, as people write them: `decode_ms<5`, `params<=2e6`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from foundation.errors import SettingError, SpaceError
from nas.objectives.base import CostModel, objectives
from nas.study.plan import Plan
from nas.study.trial import Value
from search_spaces.language.space import Space

MAX_VIOLATIONS = 1000
"""How many candidates in a row may violate constraints before the search gives up."""

COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Constraint:
    """A bound on one objective that is known before training."""

    name: str
    sign: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Read `name<bound`.

        Raises:
            SettingError: not of that form, or a number that is only known after training.
            UnknownName: no such objective.
        """
        match = re.fullmatch(r"\s*(\w+(?:@[\w.-]+)?)\s*(<=|>=|<|>)\s*([-+.\deE_]+)\s*", text)
        try:
            name, sign, bound = match.group(1, 2, 3) if match else ("", "", "")
            constraint = cls(name, sign, float(bound))
        except ValueError:
            raise SettingError(f"constraint {text!r}: write it like decode_ms<5 or params<=2e6") from None
        if objectives[constraint.name].cheap is None:
            raise SettingError(f"constraint {text!r}: {constraint.name} is only known after training")
        return constraint

    def violation(self, values: Mapping[str, Value]) -> str | None:
        """Why these values are not allowed, or None."""
        value = values[self.name].value
        return None if COMPARE[self.sign](value, self.bound) else f"{self.name} is {value:.4g}, not {self}"

    def __str__(self) -> str:
        return f"{self.name}{self.sign}{self.bound:g}"


def parsed_constraints(plan: Plan) -> tuple[Constraint, ...]:
    """The constraints of a plan."""
    return tuple(map(Constraint.parse, plan.constraints))


def require_satisfiable(space: Space, constraints: Sequence[Constraint], cost_model: CostModel) -> None:
    """Raise `SpaceError` where none of a thousand random candidates keeps the constraints.

    Asked before anything is trained, so that a bound that nothing meets costs seconds.
    """
    computable = [c for c in constraints if cost_model.ready(objectives[c.name])]
    if not computable:
        return
    dice, violation = Random("satisfiable"), None
    for _ in range(MAX_VIOLATIONS):
        spec = space.close(space.sample(dice))
        violation = first_violation(computable, spec, cost_model)
        if violation is None:
            return
    raise SpaceError(
        f"none of {MAX_VIOLATIONS} random candidates keeps the constraints, the last because {violation}:"
        " loosen them or change the space"
    )


def first_violation(constraints: Sequence[Constraint], spec: Any, cost_model: CostModel) -> str | None:
    """Which of these constraints an architecture violates, and how; or None."""
    for constraint in constraints:
        cheap = objectives[constraint.name].cheap
        if cheap is None:
            raise SettingError(f"constraint {constraint}: {constraint.name} is only known after training")
        violation = constraint.violation({constraint.name: cheap(spec, cost_model)})
        if violation:
            return violation
    return None
