"""Whether the fronts of two studies can be laid over each other: the same objectives, scored in the same way.

What must be the same raises where it is not; what a reader must only know of is a note.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evaluators.tasks.base import tasks
from foundation.errors import SettingError
from foundation.text import listed
from nas.objectives.base import objectives
from nas.study.plan_objectives import quality_of
from nas.study.study import Study
from nas.study.task import length_of
from search_spaces.scenario import Scenario


def require_comparable(studies: Sequence[Study]) -> tuple[str, ...]:
    """What is to be known before reading one front against another.

    Raises:
        SettingError: objectives, the scenario of one of them, or the way of scoring differ.
    """
    first, *others = studies
    told = [note for other in others for note in _notes(first, other)]
    return tuple(dict.fromkeys([*told, *(note for study in studies for note in _own_notes(study))]))


def _notes(one: Study, other: Study) -> Iterator[str]:
    """Notes about a pair; raises at the first difference that forbids it."""
    if set(one.plan.objectives) != set(other.plan.objectives):
        _refuse(one, other, "objectives", *(", ".join(study.plan.objectives) for study in (one, other)))
    known = [name for name in one.plan.objectives if name in objectives]
    for name in known:
        if objectives[name].per_scenario:
            _require_scenario(one, other, name)
    latencies = [name for name in known if objectives[name].needs_table]
    spaces = one.record.space_digest != other.record.space_digest
    if latencies:
        yield from _table_notes(one, other, latencies)
    if quality_of(one.plan) is not None:
        yield from _quality_notes(one, other, spaces=spaces)
    if spaces:
        yield f"{one.name} and {other.name} search different spaces: {_space(one)} and {_space(other)}."
    if set(one.plan.constraints) != set(other.plan.constraints):
        told = (f"{study.name} keeps {listed(study.plan.constraints) or 'none'}" for study in (one, other))
        yield f"Constraints differ: {' and '.join(told)}."


def _own_notes(study: Study) -> Iterator[str]:
    """What the study's engine said of itself."""
    fact = study.facts.get(study.plan.engine)
    warning = fact.get("warning") if isinstance(fact, dict) else None
    if warning:
        yield f"{study.name}: {warning}."


def _refuse(one: Study, other: Study, what: str, mine: Any, theirs: Any) -> None:
    raise SettingError(
        f"the fronts of {one.name} and {other.name} cannot be compared: {what} differ, {mine} in {one.name}"
        f" and {theirs} in {other.name}"
    )


def _space(study: Study) -> str:
    name = study.record.config.get("space", {}).get("name", "a space")
    return f"{name} ({study.record.space_digest})"


def _require_scenario(one: Study, other: Study, name: str) -> None:
    mine, theirs = (_scenario(study, name).conditions() for study in (one, other))
    off = [key for key, value in mine.items() if theirs[key] != value]
    if off:
        told = (", ".join(f"{key}={plain[key]}" for key in off) for plain in (mine, theirs))
        _refuse(one, other, f"the scenarios of {name}", *told)


def _scenario(study: Study, name: str) -> Scenario:
    """The scenario that an objective is asked under."""
    wanted = objectives[name].scenario
    return next((s for s in study.plan.scenarios if wanted and s.name == wanted), study.plan.scenario)


def _table_notes(one: Study, other: Study, latencies: Sequence[str]) -> Iterator[str]:
    """Latency from tables of two machines, or from a table and an estimate, is not one quantity."""
    for name in latencies:
        mine, theirs = (_table(study, name) for study in (one, other))
        ways = [
            f"the estimate {t['estimate']}" if t.get("estimate") else "a measured table"
            for t in (mine, theirs)
        ]
        if ways[0] != ways[1]:
            _refuse(one, other, f"the ways of predicting {name}", *ways)
        machines = [table.get("machine") for table in (mine, theirs)]
        if all(machines) and machines[0] != machines[1]:
            _refuse(one, other, f"the machines of {name}", *machines)
        if mine != theirs and not (one.plan.tables and one.plan.tables == other.plan.tables):
            yield (
                f"{one.name} and {other.name} each measured a latency table of their own, so the same network"
                " may be a little faster in one of them; give both one table (--table) to be rid of that."
            )


def _table(study: Study, name: str) -> dict[str, Any]:
    facts = study.facts
    under = facts.get("tables", {}).get(_scenario(study, name).name)
    return dict(under or facts.get("table") or {"estimate": study.plan.estimate})


def _quality_notes(one: Study, other: Study, *, spaces: bool) -> Iterator[str]:
    """Quality must come from one text, one way of training and, over one space, from the same weights."""
    if one.plan.evaluator != other.plan.evaluator:
        _refuse(one, other, "evaluators", one.plan.evaluator, other.plan.evaluator)
    shared = one.plan.evaluator == "supernet"
    same_weights = shared and _same_weights(one, other)
    for what, mine, theirs in _recipes(one, other, trained=not same_weights):
        if mine != theirs:
            _refuse(one, other, what, mine, theirs)
    if same_weights:
        return
    if not shared:
        if one.plan.seed != other.plan.seed:
            yield f"{one.name} and {other.name} trained their networks from different seeds."
    elif spaces:
        yield (
            f"{one.name} and {other.name} read networks from different supernets, each trained for its own"
            " space: the scores of one may all be a little better than those of the other."
        )
    elif _supernet(one) != _supernet(other):
        _refuse(one, other, "shared weights", _supernet(one), _supernet(other))
    else:
        yield (
            f"{one.name} and {other.name} trained a supernet each, by the same recipe, and the losses differ:"
            " they do not hold the very same weights. To be rid of that, give both one (--supernet)."
        )


def _recipes(one: Study, other: Study, *, trained: bool) -> Iterator[tuple[str, Any, Any]]:
    """What decides a score, by name, in both studies."""
    if trained:
        yield "training steps", one.plan.steps, other.plan.steps
        yield "batch sizes", one.plan.batch, other.plan.batch
    yield "window lengths", length_of(one.plan), length_of(other.plan)
    yield "numbers of validation windows", _windows(one), _windows(other)
    yield "texts", *_texts(one, other)


def _windows(study: Study) -> int | None:
    quality = quality_of(study.plan)
    task = tasks[objectives[quality].task] if quality else None
    return study.plan.windows or getattr(task, "windows", None)


def _texts(one: Study, other: Study) -> tuple[Any, Any]:
    """The corpora by their digests; by where they were found, where no digest is on record."""
    digests = [study.facts.get("corpus", {}).get("digest") for study in (one, other)]
    if all(digests):
        return digests[0], digests[1]
    return one.plan.data, other.plan.data


def _same_weights(one: Study, other: Study) -> bool:
    """Whether both read one training of a supernet: every step of it had the same loss."""
    curves = [study.facts.get("supernet", {}).get("loss") for study in (one, other)]
    if all(curves):
        return bool(curves[0] == curves[1])
    same_recipe = (one.plan.steps, one.plan.batch) == (other.plan.steps, other.plan.batch)
    same_space = one.record.space_digest == other.record.space_digest
    return same_recipe and same_space and _supernet(one) == _supernet(other)


def _supernet(study: Study) -> str:
    """Which shared weights a study was told to read."""
    plan = study.plan
    return f"those in {Path(plan.supernet).resolve()}" if plan.supernet else f"those of seed {plan.seed}"
