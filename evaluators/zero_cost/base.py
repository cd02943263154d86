"""The contract of a zero-cost score: a number of a network at its initial weights, on one batch.

    @zero_costs.add
    def mine(probe: Probe) -> float:
        \"\"\"What it is, in a line.\"\"\"
        return ...

A new file in this folder is a new score. A larger one is meant to promise a better network. None is to be
believed before `nas validate` has ranked networks of the space at hand by it: on most spaces few do better
than the number of parameters (White et al. 2022, ICLR blog track, "A Deeper Look at Zero-Cost Proxies for
Lightweight NAS"; Ning et al. 2021, arXiv:2008.03064).

Shapes: B batch, T tokens, D d_model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from evaluators.tasks.base import IGNORED, Task
from foundation.errors import EvaluationFailed, IllegalArchitecture
from foundation.registry import Registry
from search_spaces.blocks.base import Mixed
from search_spaces.network.decoder import Decoder
from search_spaces.network.layer import Parts
from search_spaces.network.model import Model, build
from search_spaces.network.residual import Embedded, Residual
from search_spaces.network.shell import ShellModule

SEQUENCES = 16
"""Sequences of the batch."""


@dataclass(frozen=True)
class Probe:
    """A network at its initial weights, and a batch: tokens and targets [B, T]. Scores change neither."""

    model: Model
    tokens: Tensor
    targets: Tensor

    @property
    def body(self) -> dict[str, Tensor]:
        """The parameters by name, without the embedding, which is the head as well."""
        outer = self.model.shell.matrices
        return {name: weight for name, weight in self.model.named_parameters() if name not in outer}

    @cached_property
    def gradients(self) -> dict[str, Tensor]:
        """Of the mean loss of the batch, by the names of `body`; zero for what it does not depend on."""
        logits = self.model(self.tokens)
        loss = F.cross_entropy(logits.transpose(1, 2), self.targets, ignore_index=IGNORED)
        found = torch.autograd.grad(loss, list(self.body.values()), allow_unused=True, materialize_grads=True)
        return dict(zip(self.body, found, strict=True))

    @cached_property
    def features(self) -> tuple[list[Tensor], Tensor]:
        """What each sublayer adds to the residual stream, and what the head reads, all [B, T, D]."""
        parts = _Features([])
        with torch.no_grad():
            self.model(self.tokens, parts=parts)
        return parts.added, parts.last


ZeroCost: TypeAlias = Callable[[Probe], float]

zero_costs: Registry[ZeroCost] = Registry("zero-cost score", folder="evaluators.zero_cost")


class _Features(Parts):
    """Keeps what the sublayers add, and what the head reads."""

    def __init__(self, added: list[Tensor]) -> None:
        self.added = added
        self.last = torch.empty(0)

    def sublayer(
        self, sublayer: Residual, x: Tensor, embedded: Embedded | None = None, onto: Tensor | None = None
    ) -> Mixed:
        mixed = super().sublayer(sublayer, x, embedded, onto)
        self.added.append(mixed.y - (x if onto is None else onto))
        return mixed

    def head(self, shell: ShellModule, x: Tensor) -> Tensor:
        self.last = x
        return super().head(shell, x)


def zero_cost_score(name: str, spec: Decoder, task: Task, seed: int) -> float:
    """A score of an architecture, on the first batch that a training with this seed would read.

    Raises:
        UnknownName: there is no such score.
        IllegalArchitecture: the architecture cannot be built, or cannot read the task.
        EvaluationFailed: the score is not finite.
    """
    score = zero_costs[name]
    if spec.vocab < task.vocab:
        raise IllegalArchitecture(f"vocab is {spec.vocab}, and task {task.name} needs {task.vocab}")
    value = float(score(_probe(spec, task, seed)))
    if not math.isfinite(value):
        raise EvaluationFailed(f"{name} is {value} at the initial weights")
    return value


@lru_cache(maxsize=1)
def _probe(spec: Decoder, task: Task, seed: int) -> Probe:
    """Remembered, because several scores ask for one network."""
    return Probe(build(spec, seed=seed), *task.train_batch(0, seed, SEQUENCES))
