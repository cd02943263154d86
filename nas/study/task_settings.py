"""What a study asks of each of its tasks: `--task recall.pairs=8 --task recall.rates=3`.

A dotted name begins with the task. `steps` and `rates` are how it is trained; all others are settings of the
task itself (`nas tasks NAME` lists them), which come after the study's own window and validation windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from evaluators.tasks.base import Task, tasks
from foundation.errors import SettingError, UnknownName
from foundation.registry import nearest
from foundation.settings import MANY, Settings, describe, setting
from foundation.wording import argument
from nas.objectives.base import objectives
from nas.study.constraints import gates_of
from nas.study.plan import Plan
from nas.study.plan_objectives import scored_names

OPTION = "task"


@dataclass(frozen=True, kw_only=True)
class TaskTraining(Settings):
    """How networks are trained for one task, where that is not as for the others."""

    title = "training for a task"

    steps: int | None = setting(
        None, help="Training steps for this task, in every stage.", least=1, most=MANY, shown="the study's"
    )
    rates: int = setting(
        1,
        help="Learning rates that are tried for each network, each half a decade from the next; the best"
        " score counts.",
        least=1,
        most=9,
    )


def training_of(plan: Plan, task: str) -> TaskTraining:
    """How a plan trains for a task."""
    names = {described.name for described in describe(TaskTraining)}
    given = _given(plan, task)
    return TaskTraining.from_plain({name: value for name, value in given.items() if name in names})


def with_own_settings(plan: Plan, task: Task) -> Task:
    """A task with the settings that a plan has for it.

    Raises:
        UnknownName: it has no such setting.
        SettingError: a value is out of range, or the task has no settings.
    """
    names = {described.name for described in describe(TaskTraining)}
    own = {name: value for name, value in _given(plan, task.name).items() if name not in names}
    if not own:
        return task
    if not isinstance(task, Settings):
        first = next(iter(own))
        raise UnknownName(f"the task {task.name} has no setting {first!r}; {nearest(first, names)}")
    changed = task.with_settings(own)
    assert isinstance(changed, Task)
    return changed


def with_task_settings(plan: Plan) -> Plan:
    """The plan with its task settings as values, each checked.

    Raises:
        UnknownName: the study has no such task, or that no such setting.
        SettingError: a value is out of range, or does not go with a training that is shared.
    """
    learned = [objectives[name].task for name in scored_names(plan)]
    if plan.shared_training and len(learned) < 2:
        raise SettingError(f"{argument('shared_training', True)} needs several objectives that are learned")
    typed: dict[str, Any] = {}
    for path in sorted(plan.task_settings):
        task, dot, name = path.partition(".")
        if not dot or not name:
            shown = argument("task_settings", f"{path}={plan.task_settings[path]}", option=OPTION)
            raise SettingError(f"{shown}: write TASK.SETTING=VALUE, e.g. recall.pairs=8")
        if task not in learned:
            raise UnknownName(f"{path}: this study has no task {task!r}; {nearest(task, learned)}")
    _check_gates(plan)
    for task in learned:
        if given := _given(plan, task):
            typed |= {f"{task}.{name}": value for name, value in _typed(tasks[task], given).items()}
            _check_training(plan, task)
    return replace(plan, task_settings=typed)


def _typed(task: type[Task], given: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name; those of the task are checked together when it is made."""
    own = describe(task) if issubclass(task, Settings) else ()
    known = {described.name: kind for kind in (TaskTraining,) for described in describe(kind)}
    training = TaskTraining.from_plain({name: value for name, value in given.items() if name in known})
    values = {name: getattr(training, name) for name in given if name in known}
    rest = {name: value for name, value in given.items() if name not in known}
    names = [described.name for described in own]
    for name in rest:
        if name not in names:
            hint = nearest(name, [*names, *known])
            raise UnknownName(f"the task {task.name} has no setting {name!r}; {hint}")
    if rest and issubclass(task, Settings):
        made = task.from_plain(rest)
        values |= {name: getattr(made, name) for name in rest}
    return values


def _check_training(plan: Plan, task: str) -> None:
    training = training_of(plan, task)
    if training == TaskTraining():
        return
    if plan.shared_training:
        raise SettingError(f"tasks that share a training have no steps or rates of their own: {task} has")
    if training.rates > 1 and plan.evaluator != "scratch":
        raise SettingError(
            f"{task}.rates={training.rates} trains each network several times: it needs"
            f" {argument('evaluator', 'scratch')}"
        )


def _check_gates(plan: Plan) -> None:
    """A gate asks the same of all candidates: where their steps differ, those of its task must not."""
    for gate in gates_of(plan) if plan.scheduler != "full" else ():
        task = objectives[gate.name].task
        if training_of(plan, task).steps is None:
            raise SettingError(
                f"the gate {gate} needs candidates that are trained equally long for {task}: set"
                f" {argument('task_settings', f'{task}.steps=N', option=OPTION)}, or leave"
                f" {argument('scheduler', plan.scheduler)} out"
            )


def _given(plan: Plan, task: str) -> dict[str, Any]:
    """What a plan sets of a task, by the name of the setting."""
    parts = ((path.partition("."), value) for path, value in plan.task_settings.items())
    return {name: value for (of, _, name), value in parts if of == task}
