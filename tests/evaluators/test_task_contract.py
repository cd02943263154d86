"""What every task of the registry promises: a new file in `evaluators/tasks` is tested by being there."""

from __future__ import annotations

import math
import pickle
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evaluators.tasks.base import IGNORED, Task, tasks
from foundation.errors import SettingError
from tests.evaluators.tiny import WORDS

WINDOWS = 6


def made(name: str, folder: Path, *, windows: int = WINDOWS) -> Task:
    """A task on a little text, or on its own sequences where it takes no data."""
    text = folder / "text.txt"
    dice = random.Random(0)
    text.write_text(" ".join(dice.choice(WORDS) for _ in range(6000)))
    try:
        return tasks[name].make(data=str(text), length=None, windows=windows)
    except SettingError:
        return tasks[name].make(data=None, length=None, windows=windows)


@pytest.fixture(params=list(tasks), scope="module")
def task(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("task")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_CACHE", str(folder / "cache"))
        return made(request.param, folder)


def oracle(task: Task, targets: Tensor) -> Tensor:
    """Logits that are certain of the right answer."""
    return 50.0 * torch.nn.functional.one_hot(targets.clamp(min=0), task.vocab).float()


def test_a_batch_depends_on_step_and_seed_alone(task: Task) -> None:
    again: Task = pickle.loads(pickle.dumps(task))
    batch = task.train_batch(7, 1, 4)
    task.train_batch(0, 5, 2)
    task.validation()
    for part, same in zip(batch, again.train_batch(7, 1, 4), strict=True):
        assert torch.equal(part, same)
    assert not torch.equal(task.train_batch(8, 1, 4)[0], batch[0])
    assert not torch.equal(task.train_batch(7, 2, 4)[0], batch[0])


def test_tokens_and_targets_are_below_the_vocabulary(task: Task) -> None:
    for tokens, targets in (task.train_batch(0, 0, 5), task.validation()):
        assert tokens.shape == targets.shape == (len(tokens), task.length)
        assert tokens.dtype == targets.dtype == torch.int64
        assert 0 <= int(tokens.min()) <= int(tokens.max()) < task.vocab
        judged = targets[targets != IGNORED]
        assert 0 <= int(judged.min()) <= int(judged.max()) < task.vocab


def test_every_window_has_a_target_that_is_judged(task: Task) -> None:
    _, targets = task.validation()
    assert len(targets) == task.windows == WINDOWS
    assert (targets != IGNORED).any(1).all()
    assert (task.train_batch(0, 0, 8)[1] != IGNORED).any(1).all()


def test_windows_are_always_the_same_and_their_task_has_a_digest(task: Task) -> None:
    again: Task = pickle.loads(pickle.dumps(task))
    for part, same in zip(task.validation(), again.validation(), strict=True):
        assert torch.equal(part, same)
    assert again.digest == task.digest
    assert len(task.digest) == 12
    assert int(task.digest, 16) >= 0


def test_other_windows_are_another_task(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    other = made(task.name, tmp_path, windows=WINDOWS + 1)
    assert other.digest != task.digest
    assert len(other.validation()[0]) == WINDOWS + 1


def test_an_oracle_is_better_than_guessing_on_every_window(task: Task) -> None:
    _, targets = task.validation()
    guessed = task.judge(torch.zeros(*targets.shape, task.vocab), targets)
    certain = task.judge(oracle(task, targets), targets)
    assert guessed.shape == certain.shape == (WINDOWS,)
    assert certain == pytest.approx(0.0, abs=1e-6)
    assert (certain < guessed).all()


def test_guessing_earns_the_logarithm_of_the_vocabulary(task: Task) -> None:
    _, targets = task.validation()
    losses = Task.judge(task, torch.zeros(*targets.shape, task.vocab), targets)
    assert losses.tolist() == pytest.approx([math.log(task.vocab) / task.nats] * WINDOWS, rel=1e-5)


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_windows_are_judged_one_by_one_and_where_they_are_judged(task: Task, seed: int) -> None:
    dice = torch.Generator().manual_seed(seed)
    _, targets = task.validation()
    logits = torch.randn(*targets.shape, task.vocab, generator=dice)
    scores = task.judge(logits, targets)
    order = torch.randperm(WINDOWS, generator=dice)
    assert torch.equal(task.judge(logits[order], targets[order]), scores[order])
    alone = torch.cat([task.judge(logits[i : i + 1], targets[i : i + 1]) for i in range(WINDOWS)])
    torch.testing.assert_close(alone, scores)
    elsewhere = torch.where((targets == IGNORED)[..., None], -logits, logits)
    assert torch.equal(task.judge(elsewhere, targets), scores)


def test_a_score_has_a_name_a_unit_and_a_line_of_help(task: Task) -> None:
    assert task.name in tasks
    assert all((task.unit, task.score_name, task.score_unit, task.score_help))
    assert "\n" not in task.score_help
    assert task.nats > 0


def test_no_two_tasks_share_a_score() -> None:
    names = [kind.score_name for kind in tasks.values()]
    assert len(set(names)) == len(names)
