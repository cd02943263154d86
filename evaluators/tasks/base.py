"""The contract of a task: batches to learn from, and fixed windows to be judged on.

A new file in this folder is a new task, and the score that it declares is an objective of every study.

A batch depends on (seed, step) and on nothing else, so every candidate learns the same batches in the same
order, and a training that was stopped continues as if it had not been. The validation windows are the same
for everyone, so two candidates can be compared window by window.

Shapes: B batch, T tokens, W windows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from foundation.errors import SpaceError
from foundation.registry import Registry
from foundation.wording import argument
from search_spaces.language.choices import OneOf
from search_spaces.language.space import Space
from search_spaces.language.walk import closed_values
from search_spaces.network.decoder import Decoder

tasks: Registry[type[Task]] = Registry("task", folder="evaluators.tasks")

IGNORED = -100
"""The target of a position that is not judged."""


def copied(values: Tensor, device: str | torch.device) -> Tensor:
    """Values on a device; a GPU copies them from pinned memory while the program goes on."""
    if torch.device(device).type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


class Task(ABC):
    """What is learned: a frozen dataclass of plain values, heavy things opened when they are first needed.

    A loss is reported in `unit`, which is worth `nats`. A score (see `judge`) is an objective: `score_name`
    and `score_unit` are its name and unit, and `score_help` says in a line what it is. Every window has at
    least one target that is judged.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    score_name: ClassVar[str]
    score_help: ClassVar[str]
    score_unit: ClassVar[str]
    nats: ClassVar[float] = 1.0
    takes_data: ClassVar[bool] = True
    """Whether a user's text may be its data; without, it makes its own sequences."""

    length: int
    """Tokens of a window; the class holds the default."""

    windows: int
    """Windows to be judged on."""

    @classmethod
    @abstractmethod
    def make(cls, *, data: str | None, length: int | None, windows: int | None) -> Task:
        """The task on a user's data, if it takes any, at these sizes; None leaves them as they are.

        Raises:
            DataError: the data cannot be used.
            SettingError: the task takes no data, or not at these sizes.
        """

    def tokenizer_json(self) -> bytes | None:
        """What the tokens mean, as the JSON of a tokenizer's file; None where they are bytes, or no text."""
        return None

    def about(self) -> dict[str, Any] | None:
        """The data in a record, with their `digest`; None where the settings of the task define them."""
        return None

    @property
    @abstractmethod
    def vocab(self) -> int:
        """Tokens and targets are below it."""

    def check_vocabulary(self, space: Space) -> None:
        """Raise `SpaceError` where a decoder of the space has fewer tokens than the task."""
        roots = space.root.options if isinstance(space.root, OneOf) else (space.root,)
        sizes = [size for root in roots if isinstance(root, Decoder) for size in closed_values(root.vocab)]
        if min(sizes, default=self.vocab) < self.vocab:
            raise SpaceError(
                f"vocab is {min(sizes)}, and the task {self.name} needs at least {self.vocab}: write"
                f" Decoder(vocab={self.vocab}, ...), or have it set with {argument('vocab', 'data')}"
            )

    @property
    @abstractmethod
    def digest(self) -> str:
        """12 hex digits: tasks of one digest give equal batches and equal windows, on every machine."""

    @abstractmethod
    def train_batch(self, step: int, seed: int, batch: int) -> tuple[Tensor, Tensor]:
        """Tokens and targets [B, T] of one training step."""

    def train_batch_on(
        self, device: str | torch.device, step: int, seed: int, batch: int
    ) -> tuple[Tensor, Tensor]:
        """What `train_batch` gives, on a device; the program does not wait for a GPU that copies it.

        A task whose data fit may keep them there, and must gather the same values.
        """
        tokens, targets = self.train_batch(step, seed, batch)
        return copied(tokens, device), copied(targets, device)

    @abstractmethod
    def validation(self) -> tuple[Tensor, Tensor]:
        """Tokens and targets [W, T], always the same."""

    def judge(self, logits: Tensor, targets: Tensor) -> Tensor:
        """What each window scores [W], lower is better: its mean loss, unless a task defines another score.

        Shapes: logits [W, T, V], targets [W, T].
        """
        nats = F.cross_entropy(
            logits.transpose(1, 2).float(), targets, ignore_index=IGNORED, reduction="none"
        )
        return nats.double().sum(1) / (targets != IGNORED).sum(1) / self.nats


class OfTask:
    """Settings that say what is learned: the name of a task, its data, and its sizes where not its own."""

    task: str
    data: str | None
    window: int | None
    validation_windows: int | None

    def make_task(self) -> Task:
        """The task, opened.

        Raises:
            DataError: its data cannot be used.
            SettingError: it does not come in these sizes.
        """
        kind = tasks[self.task]
        return kind.make(data=self.data, length=self.window, windows=self.validation_windows)
