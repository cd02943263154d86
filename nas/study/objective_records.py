"""Objectives on a study's record: what reads it must know of those that only its source defines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from evaluators.tasks.base import Task, tasks
from foundation.fields import Field
from nas.objectives.base import Objective, objectives
from nas.study.plan import Plan
from nas.study.plan_objectives import asked_objectives, scored_names

OBJECTIVES = "objectives"
"""Their name in a record."""

TASK = "task"
"""What an objective's record names, where it is the score of one."""


@dataclass(frozen=True)
class ScoredTask:
    """What a reader must know of a task: the unit of its losses, and the sizes that it has by itself."""

    unit: str
    length: int | None
    windows: int | None

    @classmethod
    def of(cls, task: type[Task]) -> ScoredTask:
        """What a task says of itself; a size without a default is None."""
        length, windows = (getattr(task, name, None) for name in ("length", "windows"))
        return cls(
            unit=str(getattr(task, "unit", "")),
            length=length if isinstance(length, int) else None,
            windows=windows if isinstance(windows, int) else None,
        )


def described_objectives(plan: Plan) -> dict[str, Any]:
    """What a record says of the registered objectives that a plan trades off or bounds."""
    asked = [*asked_objectives(plan), *(objectives[name] for name in scored_names(plan))]
    return {objective.name: _described(objective) for objective in asked}


def _described(objective: Objective) -> dict[str, Any]:
    about = {"unit": objective.unit, "about": objective.about, "maximise": objective.maximise}
    if not objective.task:
        return about
    return {**about, TASK: {"name": objective.task, **asdict(ScoredTask.of(tasks[objective.task]))}}


def known_objective(name: str, config: Mapping[str, Any]) -> Objective:
    """The objective of a name: the registered one, else as the record has it, else a function's name.

    Raises:
        FileError: the record is malformed.
    """
    if name in objectives:
        return objectives[name]
    field = Field(config).get(OBJECTIVES, {})
    if name not in field.names():
        return Objective(name=name, unit="", about="the user's own")
    about = field[name]
    return Objective(
        name=name,
        unit=about["unit"].text(least=0),
        about=about["about"].text(least=0, most=1000),
        maximise=about["maximise"].flag(),
        task=about[TASK]["name"].name() if TASK in about.names() else "",
    )


def known_scores(names: Iterable[str], config: Mapping[str, Any]) -> tuple[Objective, ...]:
    """Those of these objectives that are scores of tasks.

    Raises:
        FileError: the record is malformed.
    """
    known = (known_objective(name, config) for name in dict.fromkeys(names))
    return tuple(objective for objective in known if objective.task)


def known_task(score: Objective, config: Mapping[str, Any]) -> ScoredTask:
    """The task of a score: the registered one, else as the record has it.

    Raises:
        FileError: the record is malformed.
    """
    if score.task in tasks:
        return ScoredTask.of(tasks[score.task])
    about = Field(config)[OBJECTIVES][score.name][TASK]
    length, windows = (
        None if size.plain is None else size.whole(least=1) for size in (about["length"], about["windows"])
    )
    return ScoredTask(about["unit"].text(least=0), length, windows)
