"""Executors: where candidates are scored. In this process, or on persistent workers elsewhere.

A worker holds its scorers (evaluators and functions, with their supernet and data) once, and is sent work
items of a few hundred bytes. The driver alone writes to the store.
"""

from __future__ import annotations

import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from foundation.errors import EvaluationFailed, IllegalArchitecture
from nas.study.trial import Value


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


@dataclass(frozen=True)
class WorkItem:
    """One architecture to be scored."""

    number: int
    spec: Any
    steps: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """The result of an item; `reason` says why there are no values, `unexpected` that it may be a bug."""

    number: int
    values: Mapping[str, Value] = field(default_factory=dict)
    reason: str | None = None
    unexpected: bool = False
    seconds: float = 0.0
    worker: str = "driver"


class Executor(ABC):
    """Takes items and returns outcomes in the order in which they finish."""

    capacity: int
    """How many items it wants to hold at a time."""

    @abstractmethod
    def submit(self, items: Sequence[WorkItem]) -> None:
        """Accept items; returns at once."""

    @abstractmethod
    def collect(self) -> list[Outcome]:
        """Wait until at least one outcome is there, and return those that are."""

    def warm_up(self) -> None:
        """Wait until the workers are there (they come anyway, when the first outcome is asked for)."""

    def close(self) -> None:
        """Give the workers back."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def score_item(scorers: Mapping[str, Scorer], item: WorkItem, worker: str = "driver") -> Outcome:
    """Score one item. Whatever a scorer raises becomes an outcome: no candidate stops a search."""
    began = time.perf_counter()
    values: dict[str, Value] = {}
    reason, unexpected = None, False
    try:
        for name, scorer in scorers.items():
            values[name] = _finite(name, scorer(item.spec, item.steps, item.seed))
    except (EvaluationFailed, IllegalArchitecture) as error:
        reason = str(error)
    except (MemoryError, torch.OutOfMemoryError) as error:
        reason = f"out of memory: {error}"
    except Exception as error:  # recorded, and counted by the driver, which stops when it recurs
        reason, unexpected = f"{type(error).__name__}: {error}", True
    spent = time.perf_counter() - began
    return Outcome(item.number, {} if reason else values, reason, unexpected, spent, worker)


def _finite(name: str, value: Value) -> Value:
    """A value that can be compared with others."""
    if not math.isfinite(value.value):
        raise EvaluationFailed(f"{name} is {value.value}")
    return value


def worker_name() -> str:
    """Names this process in records."""
    return f"{os.uname().nodename}:{os.getpid()}"
