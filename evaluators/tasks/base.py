"""The contract of a task: batches to learn from, and fixed windows to be judged on.

A batch depends on (seed, step) and on nothing else, so every candidate learns the same batches in the same
order, and a training that was stopped goes on as if it had not been. The validation windows are the same for
everyone, so two candidates can be compared window by window.

Shapes: B batch, T tokens, W windows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from search_spaces.registry import Registry

tasks: Registry[type[Task]] = Registry("task", folder="evaluators.tasks")

IGNORED = -100
"""The target of a position that is not judged."""


class Task(ABC):
    """What is learned: a frozen dataclass of plain values, heavy things opened when they are first needed.

    A loss is reported in `unit`, which is worth `nats`. Every window has at least one target that is judged.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    nats: ClassVar[float] = 1.0

    @property
    @abstractmethod
    def vocab(self) -> int:
        """Tokens and targets are below it."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """12 hex digits: tasks of one digest give equal batches and equal windows, on every machine."""

    @abstractmethod
    def train_batch(self, step: int, seed: int, batch: int) -> tuple[Tensor, Tensor]:
        """Tokens and targets [B, T] of one training step."""

    @abstractmethod
    def validation(self) -> tuple[Tensor, Tensor]:
        """Tokens and targets [W, T], always the same."""
