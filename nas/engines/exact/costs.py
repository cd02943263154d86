"""The objectives and constraints of a plan as costs that the exact engine bounds and trades off."""

from __future__ import annotations

from collections.abc import Sequence

from nas.engines.base import Setup
from nas.objectives.base import objectives
from nas.study.constraints import first_violation, parsed_constraints
from search_spaces.language.genotype import Genotype
from search_spaces.network.additive_cost import Total
from search_spaces.network.decoder import Decoder


class Costs:
    """The objectives and constraints of a plan as costs of the choice: all are kept small.

    What is to be large, or is bounded from below, is negated, under its name with a minus.
    """

    def __init__(self, setup: Setup) -> None:
        self.cost_model, self.space = setup.cost_model, setup.space
        self.constraints = parsed_constraints(setup.plan)
        self.totals: dict[str, Total] = {}
        self.traded: list[str] = []
        for name, maximise in setup.goals:
            if name != setup.quality:
                self.traded.append(self._add(name, maximise))
        self.bounds: dict[str, float] = {}
        for constraint in self.constraints:
            negated = constraint.sign.startswith(">")
            name = self._add(constraint.name, negated)
            bound = -constraint.bound if negated else constraint.bound
            self.bounds[name] = min(bound, self.bounds.get(name, bound))

    def violation(self, spec: Decoder) -> str | None:
        """Why a network breaks a constraint, or None."""
        return first_violation(self.constraints, spec, self.cost_model)

    def kept(self, networks: Sequence[Genotype]) -> list[Genotype]:
        """Those that keep all constraints."""
        return [each for each in networks if self.violation(self.space.close(each)) is None]

    def _add(self, name: str, negated: bool) -> str:
        """Add an objective, and return the name of its cost."""
        total = objectives[name].of_networks(self.cost_model)
        cost = f"-{name}" if negated else name
        self.totals.setdefault(cost, _negated(total) if negated else total)
        return cost


def _negated(total: Total) -> Total:
    return lambda specs: [-value for value in total(specs)]
