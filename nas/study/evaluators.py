"""Evaluators by name, and as scorers: what turns a plan into something that scores architectures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evaluators.scoring.base import Evaluator
from evaluators.scoring.best_of_rates import BestOfRates
from evaluators.scoring.scratch import FromScratch
from evaluators.supernet.evaluator import FromSupernet
from evaluators.supernet.folder import open_supernet, read_ready
from evaluators.tasks.base import Task
from evaluators.tasks.shared import SharedTraining
from evaluators.trained_parent.evaluator import FromParent
from evaluators.training.execution import Execution
from evaluators.training.recipe import Recipe
from foundation.errors import SettingError, UnknownName
from foundation.files import real_path
from foundation.registry import nearest
from foundation.text import listed
from foundation.wording import argument
from nas.executors.base import Gate, Scorer
from nas.schedulers.base import ladder_of, looks_of
from nas.study.constraints import gates_of
from nas.study.plan import Plan
from nas.study.plan_objectives import scored_names
from nas.study.task import check_tokens
from nas.study.task_settings import training_of
from nas.study.trial import Fidelity, Value
from search_spaces.devices import require_here
from search_spaces.language.serialization import to_json
from search_spaces.language.space import Space
from search_spaces.network.model_files import read_tokenizer

EVALUATORS = ("supernet", "scratch")


@dataclass(frozen=True)
class EvaluatorScorer:
    """An evaluator as a scorer: its score becomes a value that says how it was found."""

    evaluator: Evaluator

    def __call__(self, spec: Any, steps: int, seed: int) -> Value:
        """The score of an architecture, with its windows kept for paired comparison."""
        score = self.evaluator.score(spec, steps, seed)
        name, about = self.evaluator.name, (score.samples, score.figures, score.curve)
        return Value(score.value, score.standard_error, name, *about)


def check_evaluator(name: str) -> None:
    """Raise `UnknownName` unless there is an evaluator of this name."""
    if name not in EVALUATORS:
        raise UnknownName(f"unknown evaluator {name!r}; {nearest(name, EVALUATORS)}")


def scorers_of(
    plan: Plan, evaluators: Mapping[str, Evaluator], tasks: Mapping[str, Task]
) -> dict[str, Scorer]:
    """The evaluators of a plan's scores as scorers, the cheapest training first."""

    def spent(name: str) -> float:
        training = training_of(plan, tasks[name].name)
        return (training.steps or plan.train_steps) * training.rates * tasks[name].length

    return {name: EvaluatorScorer(evaluators[name]) for name in sorted(evaluators, key=spent)}


def gated(plan: Plan, scorers: Mapping[str, Scorer]) -> dict[str, Scorer]:
    """These scorers with the gates of a plan: those that have one come first."""
    bounds = {name: tuple(gate for gate in gates_of(plan) if gate.name == name) for name in scorers}
    first = {name: Gate(scorer, bounds[name]) for name, scorer in scorers.items() if bounds[name]}
    return {**first, **{name: scorer for name, scorer in scorers.items() if name not in first}}


def scratch_evaluator(plan: Plan, task: Task, folder: Path) -> FromScratch:
    """Trains every architecture by itself, keeping checkpoints under `folder`."""
    training = training_of(plan, task.name)
    evaluator = FromScratch(
        task,
        checkpoints=str(folder.absolute() / "scratch"),
        batch=plan.train_batch,
        recipe=plan.recipe,
        device=device_of(plan),
        own_steps=training.steps,
    )
    if training.rates == 1:
        return evaluator
    return BestOfRates(**vars(evaluator), rates=training.rates)


def search_evaluator(plan: Plan, task: Task, folder: Path) -> FromScratch:
    """Trains the candidates of a search: each towards a whole training, wherever a scheduler may stop it."""
    looks = looks_of(ladder_of(plan)) if plan.scheduler != "full" else ()
    return replace(scratch_evaluator(plan, task, folder), horizon=plan.train_steps, looks=looks)


def supernet_evaluator(space: Space, plan: Plan, task: Task, folder: Path) -> FromSupernet:
    """Reads architectures from the supernet trained under `folder`, or from the one that the plan names.

    Raises:
        SupernetError: the one that is named does not fit.
    """
    device = device_of(plan)
    if plan.supernet is not None:
        return open_supernet(plan.supernet, space=space, task=task, device=device)
    if plan.parent is not None:
        return _from_parent(space, plan, task, folder)
    several = len(scored_names(plan)) > 1 and not isinstance(task, SharedTraining)
    steps = training_of(plan, task.name).steps or plan.train_steps
    weights = folder.absolute() / "supernet"  # absolute, for workers run elsewhere
    return FromSupernet(
        task,
        to_json(space.root),
        str(weights / task.name if several else weights),
        steps,
        plan.seed,
        plan.train_batch,
        plan.recipe,
        execution=Execution.for_supernet(device, steps),
        space_name=space.name,
    )


def _from_parent(space: Space, plan: Plan, task: Task, folder: Path) -> FromParent:
    steps = training_of(plan, task.name).steps or plan.train_steps
    return FromParent(
        task,
        to_json(space.root),
        str(folder.absolute() / "supernet"),
        steps,
        plan.seed,
        plan.train_batch,
        plan.recipe,
        execution=Execution.for_supernet(device_of(plan), steps),
        space_name=space.name,
        parent=plan.parent or "",
    )


def check_parent(space: Space, plan: Plan, tasks: Mapping[str, Task]) -> None:
    """Refuse at once a parent that cannot be searched around by this plan.

    Raises:
        SettingError: the folder holds no model, or one that is not in the space or reads other tokens.
    """
    if plan.parent is None:
        return
    if plan.evaluator != "supernet" or plan.supernet is not None:
        other = "evaluator" if plan.supernet is None else "supernet"
        raise SettingError(
            f"a parent has the weights that candidates are read from: leave {argument(other)} out"
        )
    if len(tasks) != 1:
        raise SettingError(f"a parent is compared on one task, and the scores are {listed(tasks) or 'none'}")
    for task in tasks.values():
        _from_parent(space, plan, task, Path()).check(space)
        check_tokens(read_tokenizer(plan.parent), task)


def device_of(plan: Plan) -> str:
    """Where the plan trains and scores.

    Raises:
        SettingError: there is no such device here.
    """
    require_here(plan.train_on)
    return plan.train_on


def with_supernet(space: Space, plan: Plan) -> Plan:
    """The plan with the recipe, steps, batch and windows of the supernet that it names, if it names one.

    Raises:
        SupernetError: the folder holds none, or one of another space, or one that is not trained to its end.
    """
    if plan.supernet is None:
        return plan
    if plan.evaluator != "supernet":
        raise SettingError(f"a supernet is searched by the evaluator supernet, not by {plan.evaluator}")
    if len(names := scored_names(plan)) > 1:
        raise SettingError(
            f"a supernet in a folder has learned one task, and {listed(names)} are the scores of"
            f" {len(names)}: leave {argument('supernet')} out, and the study trains its own"
        )
    about = read_ready(plan.supernet, space)
    task = about["task"]["settings"]
    learned = {"window": task.get("length"), "validation_windows": task.get("windows")}
    for name, value in learned.items():
        if getattr(plan, name) not in (None, value):
            raise SettingError(
                f"{plan.supernet} learned with {name}={value}, not {getattr(plan, name)}: leave"
                f" {argument(name)} out"
            )
    learned["recipe"] = Recipe.from_plain(about["recipe"])
    if plan.recipe not in (Recipe().on(plan.train_on), learned["recipe"]):
        raise SettingError(
            f"{plan.supernet} was trained by another recipe ({learned['recipe'].unlike(plan.recipe)}): leave"
            f" {argument('recipe')} out"
        )
    folder = real_path(plan.supernet)
    return replace(plan, supernet=folder, train_steps=about["steps"], train_batch=about["batch"], **learned)


def fidelity(plan: Plan) -> Fidelity:
    """What a search trial of this plan costs."""
    return Fidelity(evaluator=plan.evaluator, steps=plan.train_steps)
