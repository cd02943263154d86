"""Constraints on numbers, as people write them and tables print them: `decode_ms<5`, `params<=2M`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foundation.errors import SettingError
from foundation.text import MOST_PERCENT, NAMED_PREFIXES, number_text, percent, significant
from nas.objectives.base import CostModel, objectives
from nas.study.plan import Plan
from nas.study.trial import Value

COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

PREFIXES = {prefix: size for size, prefix in NAMED_PREFIXES} | {"": 1.0}
FORM = re.compile(r"\s*(\w+(?:@[\w.-]+)?)\s*(<=|>=|<|>)\s*([-+.\deE_]+)\s*([kMG]?)(B?)\s*")
LEAST_SHOWN = 0.0005
"""The share that one place of percents shows."""

EXAMPLES = "decode_ms<5, params<=2M or weight_bytes<110kB"


@dataclass(frozen=True)
class Constraint:
    """A bound on one number."""

    name: str
    sign: str
    bound: float

    @classmethod
    def read(cls, text: str) -> Constraint:
        """Read `name<bound`, whatever the name; the bound may have a decimal prefix, and bytes their B.

        Raises:
            SettingError: not of that form.
        """
        match = FORM.fullmatch(text)
        name, sign, number, prefix, unit = match.groups() if match else ("", "", "", "", "")
        try:
            constraint = cls(name, sign, float(number) * PREFIXES[prefix])
        except ValueError:
            raise SettingError(f"constraint {text!r}: write it like {EXAMPLES}") from None
        if unit and "bytes" not in name:
            raise SettingError(f"constraint {text!r}: {name} is no number of bytes; write it like {EXAMPLES}")
        if not math.isfinite(constraint.bound):
            raise SettingError(f"constraint {text!r}: the bound must be a finite number")
        return constraint

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """The same for a bound on candidates of a search; on the score of a task it is a gate.

        Raises:
            SettingError: not of that form, or a number that nothing computes or scores.
            UnknownName: no such objective.
        """
        constraint = cls.read(text)
        objective = objectives[constraint.name]
        if objective.zero_cost:
            raise SettingError(f"constraint {text!r}: {constraint.name} is a zero-cost score, never a bound")
        if objective.cheap is None and not objective.task:
            raise SettingError(f"constraint {text!r}: {constraint.name} is {objective.when_known}")
        return constraint

    def violation(self, values: Mapping[str, Value]) -> str | None:
        """Why these values are not allowed, or None."""
        value = values[self.name].value
        return None if COMPARE[self.sign](value, self.bound) else f"{self.name} is {value:.4g}, not {self}"

    @property
    def is_upper(self) -> bool:
        """Whether small values keep it."""
        return self.sign.startswith("<")

    @property
    def direction(self) -> float:
        """1 where small values keep it, else -1."""
        return 1.0 if self.is_upper else -1.0

    def excess(self, value: float) -> float:
        """By how much it is broken, relatively to the bound; 0 where it is kept."""
        if COMPARE[self.sign](value, self.bound):
            return 0.0
        over = self.direction * (value - self.bound) / (abs(self.bound) or 1.0)
        return max(over, 1e-12) if math.isfinite(over) else math.inf

    def missed_by(self, value: float) -> str:
        """By how much a value breaks it, in words: `25.0 % too much`; far off, `37.1 times the bound`."""
        excess, word = self.excess(value), "much" if self.is_upper else "little"
        if self.bound and excess < MOST_PERCENT:
            return f"{percent(excess) if excess >= LEAST_SHOWN else 'less than 0.1 %'} too {word}"
        if self.bound > 0 and self.is_upper:
            return f"{significant(value / self.bound)} times the bound"
        return f"{number_text(self.name, abs(value - self.bound))} too {word}"

    def better(self, first: float, second: float) -> float:
        """Which of two values keeps it more easily."""
        return min(first, second) if self.is_upper else max(first, second)

    def __str__(self) -> str:
        return f"{self.name}{self.sign}{self.bound:g}"


def parsed_constraints(plan: Plan) -> tuple[Constraint, ...]:
    """The constraints of a plan on what is known before training."""
    return tuple(c for c in map(Constraint.parse, plan.constraints) if objectives[c.name].cheap)


def gates_of(plan: Plan) -> tuple[Constraint, ...]:
    """The constraints of a plan on what is only known after training: on scores of tasks.

    A network that breaks one is not trained on the other tasks.
    """
    return tuple(c for c in map(Constraint.parse, plan.constraints) if not objectives[c.name].cheap)


def first_violation(constraints: Sequence[Constraint], spec: Any, cost_model: CostModel) -> str | None:
    """Which of these constraints an architecture violates, and how; or None."""
    for constraint in constraints:
        objective = objectives[constraint.name]
        cheap = objective.cheap
        if cheap is None:
            raise SettingError(f"constraint {constraint}: {constraint.name} is {objective.when_known}")
        violation = constraint.violation({constraint.name: cheap(spec, cost_model)})
        if violation:
            return violation
    return None
