"""Executors: where candidates are scored. In this process, or on persistent workers elsewhere.

A worker holds its scorers (evaluators and functions, with their supernet and data) once, and is sent work
items of a few hundred bytes. The driver alone writes to the store.
"""

from __future__ import annotations

import math
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch

from foundation.error_text import told
from foundation.errors import EvaluationFailed, IllegalArchitecture
from nas.executors.failures import is_of_the_machine, is_out_of_memory
from nas.signals import watched_signals
from nas.study.trial import TrialState, Value

Say: TypeAlias = Callable[[str], None]
"""Hears a line for the user."""


class Scorer(Protocol):
    """Scores one architecture: an evaluator behind its objective, or a user's function."""

    def __call__(self, spec: Any, steps: int, seed: int) -> Value:
        """The value of an architecture."""


@dataclass(frozen=True)
class FunctionScorer:
    """A user's function of the architecture as an objective; it returns a number or a `Value`."""

    function: Callable[[Any], Any]

    def __call__(self, spec: Any, steps: int, seed: int) -> Value:
        """What the function returns, with its source named."""
        value = self.function(spec)
        return value if isinstance(value, Value) else Value(float(value), source="function")


class Bound(Protocol):
    """What a value must keep."""

    def violation(self, values: Mapping[str, Value]) -> str | None:
        """Why these values are not allowed, or None."""


@dataclass(frozen=True)
class Gate:
    """A scorer whose value must keep bounds: an architecture that breaks one is not scored any further."""

    scorer: Scorer
    bounds: Sequence[Bound]

    def __call__(self, spec: Any, steps: int, seed: int) -> Value:
        """What the scorer returns."""
        return self.scorer(spec, steps, seed)

    def objection(self, values: Mapping[str, Value]) -> str | None:
        """Which bound these values break, or None."""
        return next(filter(None, (bound.violation(values) for bound in self.bounds)), None)


@dataclass(frozen=True)
class WorkItem:
    """One architecture to be scored."""

    number: int
    spec: Any
    steps: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """The result of an item; `reason` says why there are no values, `unexpected` that it may be a bug.

    What is `infeasible` broke the bound of a gate: it has the values up to that one, and the `reason`.
    Where it was `out_of_memory`, another worker may have more.
    """

    number: int
    values: Mapping[str, Value] = field(default_factory=dict)
    reason: str | None = None
    unexpected: bool = False
    out_of_memory: bool = False
    seconds: float = 0.0
    infeasible: bool = False
    worker: str = "driver"

    @property
    def state(self) -> TrialState:
        """What a trial with this outcome ends as."""
        if self.infeasible:
            return TrialState.INFEASIBLE
        return TrialState.FAILED if self.reason else TrialState.COMPLETE


class Executor(ABC):
    """Takes items and returns outcomes in the order in which they finish."""

    @property
    @abstractmethod
    def capacity(self) -> int:
        """How many items it wants to hold at a time; may change as workers come and go."""

    in_this_process: bool = False
    """Whether a candidate that ends its process ends this one."""

    @abstractmethod
    def submit(self, items: Sequence[WorkItem]) -> None:
        """Accept items; returns at once."""

    @abstractmethod
    def collect(self, within: float = math.inf) -> list[Outcome]:
        """Wait until at least one outcome is there, and return those that are; none after so many seconds."""

    def warm_up(self) -> None:
        """Wait until the workers are there (they come anyway, when the first outcome is asked for)."""

    def close(self) -> None:
        """Give the workers back."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def score_item(scorers: Mapping[str, Scorer], item: WorkItem, worker: str = "driver") -> Outcome:
    """Score one item. Whatever a scorer raises becomes an outcome: no candidate stops a search.

    What a signal raised, and errors of the disk and the store, rise: they are about no candidate.
    """
    began = time.perf_counter()
    values: dict[str, Value] = {}
    failure = _Failure()
    # A scorer may leave other streams behind than it found.
    with watched_signals() as signals, redirect_stdout(sys.stdout), redirect_stderr(sys.stderr):
        try:
            for name, scorer in scorers.items():
                values[name] = _comparable(name, scorer(item.spec, item.steps, item.seed))
                if isinstance(scorer, Gate) and (objection := scorer.objection(values)):
                    failure = _Failure(objection, infeasible=True)
                    break
        except BaseException as error:
            if signals or is_of_the_machine(error):
                raise
            failure = _failure(error)
    if signals:  # a scorer caught what the handler had raised
        raise KeyboardInterrupt
    if failure.out_of_memory and torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # what others on this GPU need
    spent = time.perf_counter() - began
    return Outcome(
        item.number,
        values if failure.infeasible or not failure.reason else {},
        failure.reason,
        unexpected=failure.unexpected,
        out_of_memory=failure.out_of_memory,
        seconds=spent,
        infeasible=failure.infeasible,
        worker=worker,
    )


class _Failure(NamedTuple):
    """Why there is no score, in one line; whether that was unexpected: the driver stops if it recurs."""

    reason: str | None = None
    unexpected: bool = False
    out_of_memory: bool = False
    infeasible: bool = False


def _failure(error: BaseException) -> _Failure:
    if isinstance(error, (EvaluationFailed, IllegalArchitecture)):
        return _Failure(told(error, kind=False))
    if is_out_of_memory(error):
        return _Failure(f"out of memory: {told(error, kind=False)}", out_of_memory=True)
    return _Failure(told(error), unexpected=True)


def _comparable(name: str, value: Value) -> Value:
    """A value of plain numbers that can be compared with others, and stored."""
    number, error = float(value.value), None if value.error is None else float(value.error)
    if not math.isfinite(number):
        raise EvaluationFailed(f"{name} is {number}")
    if error is not None and not 0 <= error < math.inf:
        raise EvaluationFailed(f"the error of {name} is {error}")
    samples = tuple(map(float, value.samples))
    if not all(map(math.isfinite, samples)):
        raise EvaluationFailed(f"a sample of {name} is not finite")
    figures = {str(key): float(figure) for key, figure in value.figures.items()}
    curve = tuple((int(steps), float(look)) for steps, look in value.curve if math.isfinite(look))
    return Value(number, error, str(value.source), samples, figures, curve)


def worker_name() -> str:
    """Names this process in records."""
    return f"{os.uname().nodename}:{os.getpid()}"
