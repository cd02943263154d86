"""Steps: what a study does, one file each, from its corpus to its finalists.

A study is a list of steps. Each says by name which steps come before it, whether a plan wants it, and
whether it is done; what is done is read off the study's record and folder, so a study that was stopped goes
on with the first step that is not done, and a step that later has more to do (more trials, another front)
runs again.

    @steps.add
    class Mine(Step):
        name = "mine"
        needs = ("search",)

        def done(self, context: Context) -> bool:
            return "mine" in context.study.facts

        def run(self, context: Context) -> None:
            ...
            add_fact(context.study, "mine", fact)

A new file here is a new step of every study that wants it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps
from graphlib import TopologicalSorter
from typing import Any, ClassVar, TypeVar

from foundation.errors import NasError
from foundation.registry import Registry
from foundation.text import one_line
from nas.executors.workers import Workers
from nas.objectives.base import ObjectiveFunction
from nas.progress import Progress
from nas.store.folders import working_in
from nas.study.facts import OUTCOME, add_fact
from nas.study.plan import Plan
from nas.study.state import others_at_work
from nas.study.study import Study
from nas.study.trial import STAGES
from search_spaces.language.genotype import Genotype

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the steps of one run share: the study, and what does not belong to its record.

    `functions` are the objectives that a user wrote in Python, by name; `picks` are architectures that are
    trained with the finalists.
    """

    study: Study
    functions: Mapping[str, ObjectiveFunction] = field(default_factory=dict)
    workers: Workers = field(default_factory=Workers)
    progress: Progress = field(default_factory=Progress)
    picks: tuple[Genotype, ...] = ()
    computed: dict[Callable[..., Any], Any] = field(default_factory=dict, repr=False)
    """Results of the functions that are `computed_once`."""

    @property
    def plan(self) -> Plan:
        """The study's settings."""
        return self.study.plan


def computed_once(function: Callable[[Context], T]) -> Callable[[Context], T]:
    """A function of the context whose result is computed once in a run, and shared by its steps."""

    @wraps(function)
    def compute(context: Context) -> T:
        if function not in context.computed:
            context.computed[function] = function(context)
        result: T = context.computed[function]
        return result

    return compute


TOLD = 3
"""Unreadable trials of a stage that are told one by one."""


class Step(ABC):
    """One step of a study. Steps in `needs` that the plan wants come before it."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()

    def wanted(self, plan: Plan) -> bool:
        """Whether a study with this plan has the step at all."""
        return True

    @abstractmethod
    def done(self, context: Context) -> bool:
        """Whether nothing is left to do, judged by the study's record and folder alone."""

    @abstractmethod
    def run(self, context: Context) -> None:
        """Do what is left. May be interrupted at any moment, and is then run again."""


steps: Registry[type[Step]] = Registry("step", folder="nas.steps")


def in_order(kinds: Mapping[str, type[Step]]) -> list[Step]:
    """The steps, each after those that it needs.

    Raises:
        UnknownName: a step needs one that does not exist.
        graphlib.CycleError: steps need each other.
    """
    needs = {name: [kinds[need].name for need in kind.needs] for name, kind in kinds.items()}
    return [kinds[name]() for name in TopologicalSorter(needs).static_order()]


def run_steps(context: Context, names: Collection[str] | None = None) -> None:
    """Run the steps of a study that are wanted and not done: all of them, or those with these names.

    How a run of all ends is put on record, see `OUTCOME`; where others go on with the study, it is told.
    """
    with working_in(context.study.folder):
        _tell_unreadable(context)
        if names is None:
            with _outcome_on_record(context.study):
                _run(context, in_order(steps))
        else:
            _run(context, [step for step in in_order(steps) if step.name in names])
    if names is None and (others := others_at_work(context.study, searched=True)):
        context.progress.say(others)


def _tell_unreadable(context: Context) -> None:
    """Say which trials cannot be read: they stay in the store, and others are scored in their place."""
    for stage in STAGES:
        _, unreadable = context.study.readings(stage)
        for record in unreadable[:TOLD]:
            context.progress.say(f"WARNING: {record}; it stays as it is, and does not count")
        if len(unreadable) > TOLD:
            context.progress.say(f"WARNING: so are {len(unreadable) - TOLD} more {stage} trials")


def _run(context: Context, chosen: Iterable[Step]) -> None:
    for step in chosen:
        if step.wanted(context.plan) and not step.done(context):
            step.run(context)


@contextmanager
def _outcome_on_record(study: Study) -> Iterator[None]:
    _record(study, {})
    try:
        yield
    except (NasError, OSError, MemoryError) as error:
        text = one_line(str(error) or type(error).__name__)
        with suppress(NasError):  # a store that takes nothing more is perhaps what ended the run
            _record(study, {"error": text})
        raise
    _record(study, {"complete": True})


def _record(study: Study, outcome: dict[str, Any]) -> None:
    if study.facts.get(OUTCOME) != outcome:
        add_fact(study, OUTCOME, outcome)
