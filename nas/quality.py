"""Evaluators by name, and as scorers: what turns a plan into something that scores architectures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluators.base import Evaluator
from evaluators.scratch import FromScratch
from evaluators.supernet import FromSupernet
from evaluators.tasks.language import ByteLanguageModelling
from nas.plan import Plan
from nas.trial import Fidelity, Value
from search_spaces.errors import UnknownName
from search_spaces.registry import nearest
from search_spaces.serialise import to_json
from search_spaces.space import Space

QUALITY = "bits_per_byte"
EVALUATORS = ("supernet", "scratch")


@dataclass(frozen=True)
class EvaluatorScorer:
    """An evaluator as a scorer: its score becomes a value that says how it was found."""

    evaluator: Evaluator

    def __call__(self, spec: Any, steps: int, seed: int) -> Value:
        """The score of an architecture, with its windows kept for paired comparison."""
        score = self.evaluator.score(spec, steps, seed)
        return Value(score.value, score.standard_error, self.evaluator.name, score.samples)


def check_evaluator(name: str) -> None:
    """Raise `UnknownName` unless there is an evaluator of this name."""
    if name not in EVALUATORS:
        raise UnknownName(f"unknown evaluator {name!r}; {nearest(name, EVALUATORS)}")


def scratch_evaluator(plan: Plan, task: ByteLanguageModelling, folder: Path) -> FromScratch:
    """Trains every architecture by itself, keeping checkpoints under `folder`."""
    return FromScratch(task, checkpoints=str(folder / "scratch"), batch=plan.batch)


def supernet_evaluator(space: Space, plan: Plan, task: ByteLanguageModelling, folder: Path) -> FromSupernet:
    """Reads architectures from the supernet trained under `folder`."""
    return FromSupernet(
        task, to_json(space.root), str(folder / "supernet"), plan.steps, plan.seed, plan.batch
    )


def fidelity(plan: Plan) -> Fidelity:
    """What a search trial of this plan costs."""
    return Fidelity(evaluator=plan.evaluator, steps=plan.steps)
