"""A task's sequences in two parts that share nothing: one for weights, one for logits.

The part of a sequence follows from its content, so a task needs no support for it, and a task that repeats
sequences keeps each in its part. (Windows of one text may overlap all the same.)
"""

from __future__ import annotations

import hashlib
from typing import TypeAlias

import torch
from torch import Tensor

from evaluators.tasks.base import Task
from foundation.errors import SettingError

Batch: TypeAlias = tuple[Tensor, Tensor]
"""Tokens and targets [B, T]."""

OVERSAMPLING = 4
"""Sequences drawn for each one that a part needs: two would do on average."""

TRIES = 64


class DataSplit:
    """Batches of both parts by step; a batch depends on (seed, step) only."""

    def __init__(self, task: Task, seed: int, batch: int) -> None:
        self.task, self.seed, self.batch = task, seed, batch
        self._last: tuple[int, tuple[Batch, Batch]] | None = None

    def of_step(self, step: int) -> tuple[Batch, Batch]:
        """The batch of the weights and that of the logits, at most `batch` sequences each.

        Raises:
            SettingError: all sequences fall into one part.
        """
        if self._last is None or self._last[0] != step:
            self._last = step, self._drawn(step)
        return self._last[1]

    def validation(self, count: int) -> list[Batch]:
        """The first batches of the logits, always the same."""
        return [self._drawn(step)[1] for step in range(count)]

    def _drawn(self, step: int) -> tuple[Batch, Batch]:
        for attempt in range(TRIES):
            number = step + attempt * 1_000_003
            tokens, targets = self.task.train_batch(number, self.seed, OVERSAMPLING * self.batch)
            for_logits = torch.tensor([_is_for_logits(row) for row in tokens])
            if bool(for_logits.any()) and not bool(for_logits.all()):
                rows = [part.nonzero()[: self.batch, 0] for part in (~for_logits, for_logits)]
                of_weights, of_logits = [(tokens[some], targets[some]) for some in rows]
                return of_weights, of_logits
        raise SettingError(f"the sequences of {self.task.name} cannot be split into two parts")


def _is_for_logits(tokens: Tensor) -> bool:
    """Whether a sequence [T] belongs to the logits."""
    digest = hashlib.blake2b(tokens.to(torch.int64).cpu().numpy().tobytes(), digest_size=1).digest()
    return bool(digest[0] & 1)
