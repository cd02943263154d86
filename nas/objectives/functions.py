"""Functions of the architecture as objectives: what a user's own function returns is checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from foundation.errors import EvaluationFailed
from foundation.text import shown
from nas.study.own_code import own_code
from nas.study.trial import Value

ObjectiveFunction: TypeAlias = Callable[[Any], float]
"""An objective of a user's own program: a number for an architecture, to be minimised."""


@dataclass(frozen=True)
class OwnObjective:
    """A user's function under its name; what it returns is checked."""

    name: str
    function: ObjectiveFunction

    def __call__(self, spec: Any) -> Any:
        """The number that the function returns, or the `Value`.

        Raises:
            EvaluationFailed: it returns something else.
        """
        returned = self.function(spec)
        number = returned.value if isinstance(returned, Value) else returned
        try:
            if isinstance(number, (str, bytes)):
                raise TypeError
            value = float(number)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            raise EvaluationFailed(f"{self.name} returned {shown(returned)}, not a number") from None
        return returned if isinstance(returned, Value) else value


@dataclass(frozen=True)
class Computed:
    """A user's function as what `Objective.cheap` is."""

    own: OwnObjective

    def __call__(self, spec: Any, cost_model: Any) -> Value:
        """What the function returns, with its source named.

        Raises:
            EvaluationFailed: it returns no number, or raises.
        """
        value = self.own(spec)
        return value if isinstance(value, Value) else Value(value, source="function")


@dataclass(frozen=True)
class Told:
    """What computes an objective of a user's own; what it raises, or returns for a `Value`, is told."""

    name: str
    cheap: Callable[[Any, Any], Value]
    module: str

    def __call__(self, spec: Any, cost_model: Any) -> Value:
        """The value.

        Raises:
            EvaluationFailed: there is none.
        """
        with own_code(f"the objective {self.name}", self.module):
            value = self.cheap(spec, cost_model)
        if not isinstance(value, Value):
            raise EvaluationFailed(f"the objective {self.name} returned {shown(value)}, not a nas.Value")
        return value
