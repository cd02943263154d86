"""Several tasks that share one training: its steps take turns, and each task judges the same weights.

    step      0         1         2         3
    learns    language  recall    language  recall

So of N tasks each has the Nth part of the steps, in the order of its own batches. Shorter sequences are
filled up behind their end with positions that are not judged, which a causal network does not notice: all
steps have one shape. Tokens mean in each task what they mean there; which one is read, a network has to tell
by itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from evaluators.tasks.base import IGNORED, Task
from foundation.errors import SettingError


@dataclass(frozen=True)
class SharedTraining(Task):
    """The training of all `parts`, with the score of one of them, the part number `judged`.

    Those that differ in `judged` alone are equal, and have one digest: they are one training.
    """

    name: ClassVar[str] = "shared"
    unit: ClassVar[str] = "nats"
    score_name: ClassVar[str] = "shared_score"
    score_unit: ClassVar[str] = ""
    score_help: ClassVar[str] = "the score of one of the tasks that share a training"

    parts: tuple[Task, ...]
    judged: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        if len(self.parts) < 2:
            raise SettingError(f"a training is shared by several tasks, got {len(self.parts)}")
        for name in ("score_name", "score_unit", "score_help"):
            object.__setattr__(self, name, getattr(self.judge_of_score, name))

    @classmethod
    def make(cls, *, data: str | None, length: int | None, windows: int | None) -> SharedTraining:
        """It is made of tasks, not of sizes."""
        raise SettingError("a shared training is made of tasks: name several objectives that are learned")

    @property
    def judge_of_score(self) -> Task:
        """The task whose score this is."""
        return self.parts[self.judged]

    @property
    def length(self) -> int:  # type: ignore[override]  # a field of other tasks
        """Tokens of the longest sequences."""
        return max(part.length for part in self.parts)

    @property
    def windows(self) -> int:  # type: ignore[override]  # a field of other tasks
        """Windows of the task that judges."""
        return self.judge_of_score.windows

    def tokenizer_json(self) -> bytes | None:
        """That of the task that has one."""
        return next((text for part in self.parts if (text := part.tokenizer_json()) is not None), None)

    def about(self) -> dict[str, Any] | None:
        """The data of the task that judges."""
        return self.judge_of_score.about()

    @property
    def vocab(self) -> int:
        """What all of them fit into."""
        return max(part.vocab for part in self.parts)

    @cached_property
    def digest(self) -> str:
        """Names the tasks and their order."""
        what = "/".join(part.digest for part in self.parts)
        return hashlib.sha256(f"{self.name}/{what}".encode()).hexdigest()[:12]

    def train_batch(self, step: int, seed: int, batch: int) -> tuple[Tensor, Tensor]:
        """The next batch of the task whose turn it is."""
        turn, which = divmod(step, len(self.parts))
        tokens, targets = self.parts[which].train_batch(turn, seed, batch)
        room = self.length - tokens.shape[1]
        return F.pad(tokens, (0, room)), F.pad(targets, (0, room), value=IGNORED)

    def validation(self) -> tuple[Tensor, Tensor]:
        """The windows of the task that judges."""
        return self.judge_of_score.validation()

    def judge(self, logits: Tensor, targets: Tensor) -> Tensor:
        """What that task makes of them."""
        return self.judge_of_score.judge(logits, targets)
