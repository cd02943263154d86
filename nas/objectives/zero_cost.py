"""Zero-cost scores as objectives: known at the initial weights, and never trusted unless they are asked for.

-o synflow                 traded off like any other
--zero-cost synflow,snip   shown beside the others
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from evaluators.tasks.base import Task
from evaluators.zero_cost.base import zero_cost_score, zero_costs
from nas.objectives.base import Objective, objectives
from nas.study.trial import Value

SOURCE = "initial weights"
"""How these numbers are known."""


@dataclass(frozen=True)
class ZeroCostScorer:
    """A zero-cost score as a scorer, on a batch of the task."""

    name: str
    task: Task

    def __call__(self, spec: Any, steps: int, seed: int) -> Value:
        """The score of an architecture whose weights and batch are those of the seed."""
        return Value(zero_cost_score(self.name, spec, self.task, seed), source=SOURCE)


for _name, _score in zero_costs.items():
    _about = (inspect.getdoc(_score) or _name).partition("\n")[0].rstrip(".")
    objectives.add(
        Objective(
            name=_name,
            unit="",
            about=f"zero-cost score: {_about}",
            maximise=True,
            zero_cost=True,
            of_decoders=True,
        )
    )
