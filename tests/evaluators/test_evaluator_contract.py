"""What every evaluator promises: repeatable scores over the task's windows, and typed failures."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from evaluators.scoring.base import Evaluator, paired_difference
from evaluators.scoring.scratch import FromScratch
from evaluators.supernet.evaluator import FromSupernet
from evaluators.tasks.base import Task
from evaluators.tasks.recall import Recall
from foundation.errors import EvaluationFailed, IllegalArchitecture
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.serialization import to_json
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer

TASK = Recall(tokens=12, length=9, pairs=2, sequences=60, windows=5)
STEPS = 3


@dataclass(frozen=True)
class Unscorable(Recall):
    """A task whose score is never a number."""

    name: ClassVar[str] = "unscorable"

    def judge(self, logits: Tensor, targets: Tensor) -> Tensor:
        return torch.full((len(targets),), torch.nan)


def little_space() -> Space:
    layer = Layer(sequence_mixer=ShortConv(kernel=one_of(2, 3)), channel_mixer=one_of(SwiGLU(), None))
    return Space(Decoder(vocab=12, d_model=one_of(8, 12), layers=(layer,)), name="little")


def scratch(task: Task, folder: Path) -> Evaluator:
    return FromScratch(task, batch=4)


def shared(task: Task, folder: Path) -> Evaluator:
    space = little_space()
    evaluator = FromSupernet(task, to_json(space.root), str(folder), STEPS, batch=2, space_name=space.name)
    evaluator.train()
    return evaluator


Make = Callable[[Task, Path], Evaluator]


@pytest.fixture(params=[scratch, shared])
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param
    return made


def network(number: int = 0) -> Decoder:
    spec: Decoder = little_space().draw(lambda path, labels: labels[number])[1]
    return spec


def test_a_score_is_repeatable_in_another_process(make: Make, tmp_path: Path) -> None:
    evaluator = make(TASK, tmp_path)
    score = evaluator.score(network(), STEPS, 1)
    again: Evaluator = pickle.loads(pickle.dumps(evaluator))
    assert again == evaluator
    assert again.score(network(), STEPS, 1) == score


def test_a_score_is_the_mean_over_the_windows_of_the_task(make: Make, tmp_path: Path) -> None:
    evaluator = make(TASK, tmp_path)
    score = evaluator.score(network(), STEPS, 1)
    assert len(score.samples) == TASK.windows
    assert score.value == pytest.approx(fmean(score.samples))
    assert score.standard_error >= 0
    assert evaluator.unit == TASK.score_unit


def test_networks_are_scored_on_the_same_windows(make: Make, tmp_path: Path) -> None:
    evaluator = make(TASK, tmp_path)
    smallest, largest = (evaluator.score(network(number), STEPS, 1) for number in (0, -1))
    difference, error = paired_difference(smallest.samples, largest.samples)
    assert difference == pytest.approx(smallest.value - largest.value)
    assert error >= 0


def test_a_loss_that_is_not_finite_is_a_failed_evaluation(make: Make, tmp_path: Path) -> None:
    task = Unscorable(tokens=12, length=9, pairs=2, sequences=60, windows=5)
    evaluator = make(task, tmp_path)
    with pytest.raises(EvaluationFailed, match="validation loss is nan on 5 windows"):
        evaluator.score(network(), STEPS, 1)


def test_a_network_that_cannot_read_the_task_is_illegal(make: Make, tmp_path: Path) -> None:
    layer = Layer(sequence_mixer=ShortConv(kernel=2))
    with pytest.raises(IllegalArchitecture):
        make(TASK, tmp_path).score(Decoder(vocab=5, d_model=16, layers=(layer,) * 2), STEPS, 1)


def test_an_untrained_supernet_scores_nothing(tmp_path: Path) -> None:
    evaluator = FromSupernet(TASK, to_json(little_space().root), str(tmp_path), STEPS, batch=2)
    with pytest.raises(
        EvaluationFailed, match=f"holds no supernet trained for {STEPS} steps: it was removed"
    ):
        evaluator.score(network(), STEPS, 1)
    (tmp_path / f"of-another-version-{STEPS}.safetensors").touch()
    with pytest.raises(EvaluationFailed, match="train it again, in another folder or by a study of another"):
        evaluator.score(network(), STEPS, 1)
