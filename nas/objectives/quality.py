"""How well a network learns a task, scored by an evaluator: one objective for each task, as the task says."""

from __future__ import annotations

from evaluators.tasks.base import tasks
from nas.objectives.base import Objective, objectives

for _name, _task in tasks.items():
    objectives.add(
        Objective(name=_task.score_name, unit=_task.score_unit, about=_task.score_help, task=_name)
    )
