"""A training as plain values, for every process: what is learned, how it is shared, where it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from evaluators.tasks.base import Task
from evaluators.training.execution import EAGER, Execution
from evaluators.training.parallel.parallel import Parallel
from evaluators.training.recipe import DEFAULT, Recipe
from foundation.errors import SettingError
from search_spaces.language.serialization import NO_KINDS, Kinds, from_json
from search_spaces.network.decoder import Decoder
from search_spaces.tensor_files import DTYPES

CHECKPOINTS = "training"
"""The folder of checkpoints in that of the model."""


def no_kinds() -> Kinds:
    """The library's own parts."""
    return NO_KINDS


@lru_cache(maxsize=64)
def _decoder(spec: str, kinds: Callable[[], Kinds]) -> Decoder:
    decoder: Decoder = from_json(spec, kinds())
    return decoder


@dataclass(frozen=True, kw_only=True)
class Course:
    """One training.

    `spec` is the JSON of the network, and `kinds` gives the parts of one's own that it has. `origin` is the
    digest of the weights it began with. `parallel`, `accumulate`, `recomputed` and `compile` change the work
    alone, but for losses that are no mean over tokens (the balance of experts), which see the rows of one
    piece. Each process compiles for at most `compile_seconds`.
    """

    spec: str
    task: Task
    steps: int
    folder: str
    origin: str
    seed: int = 0
    batch: int = 16
    recipe: Recipe = DEFAULT
    parallel: Parallel = field(default_factory=Parallel)
    accumulate: int = 1
    recomputed: tuple[int, ...] = ()
    compile: str = EAGER
    compile_seconds: float = Execution().compile_seconds
    device: str = "cpu"
    dtype: str = "F32"
    kinds: Callable[[], Kinds] = no_kinds

    def decoder(self) -> Decoder:
        """The network."""
        return _decoder(self.spec, self.kinds)

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints lie."""
        return Path(self.folder) / CHECKPOINTS

    @property
    def torch_dtype(self) -> torch.dtype:
        """That of the weights."""
        return next(dtype for dtype, name in DTYPES.items() if name == self.dtype)

    @property
    def rate(self) -> float:
        """The factor on all learning rates, by the recipe and its laws."""
        horizon = self.steps if self.recipe.schedule.has_horizon else None
        return self.recipe.rate * self.recipe.scale(self.batch * self.task.length, horizon)

    @property
    def backend(self) -> str:
        """How sublayers are compiled; not at all, where a method cannot be."""
        return EAGER if self.parallel.uncompiled else self.compile

    @property
    def compiles(self) -> str:
        """The same in words."""
        if self.compile == EAGER:
            return "nothing is compiled"
        if why := self.parallel.uncompiled:
            return f"nothing is compiled: {why}"
        return (
            f"every distinct sublayer and the head are compiled once ({self.compile}), for"
            f" {self.compile_seconds:g} s at most"
        )

    def about(self) -> dict[str, Any]:
        """What names this training among all others."""
        return {
            "spec": self.spec,
            "task": self.task.digest,
            "seed": self.seed,
            "batch": self.batch,
            "recipe": self.recipe.of_networks(),
            "steps": self.steps if self.recipe.schedule.has_horizon else None,
            "origin": self.origin,
            "dtype": self.dtype,
        }

    def check(self) -> None:
        """Raise `SettingError` where it cannot be done like this."""
        spec = self.decoder()
        if spec.vocab < self.task.vocab:
            raise SettingError(f"vocab is {spec.vocab}, and task {self.task.name} needs {self.task.vocab}")
        self.parallel.check(spec)
        optimizer = self.recipe.optimizer
        for method in self.parallel.methods:
            if method.cuts and not optimizer.elementwise:
                raise SettingError(
                    f"{self.parallel.asked}: {optimizer.name} makes steps of whole matrices, which {method}"
                    " cuts: use dp or pp, or another optimizer"
                )
        self.parallel.check_batch(self.batch, self.accumulate)
