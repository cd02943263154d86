"""Losses read late, as from a GPU, are those read at once; a bad one ends the training where it happened."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from evaluators.tasks.language import LanguageModelling
from evaluators.training.fit import fit
from evaluators.training.losses import LateLosses, Losses
from evaluators.training.network_training import NetworkTraining
from evaluators.training.precision import TF32, computing_in
from evaluators.training.recipe import Recipe
from foundation.errors import EvaluationFailed
from search_spaces.network.model import build
from tests.evaluators import tiny

STEPS = 7


@dataclass(frozen=True)
class OnDevice(LateLosses):
    """Losses of which nobody knows whether they are there, as on a GPU."""

    @property
    def there(self) -> bool:
        return False


class Late(NetworkTraining):
    """A training whose losses come late; that of `bad_step` is not finite."""

    bad_step = 0

    def gradients(self) -> LateLosses:
        losses = super().gradients()
        values = losses.values * (math.nan if self.step + 1 == self.bad_step else 1)
        return OnDevice(values, losses.names, losses.nats)


def made(kind: type[NetworkTraining], folder: Path) -> NetworkTraining:
    model = build(tiny.decoder(penalty=0.1), seed=0)
    return kind(model, tiny.task(folder), steps=STEPS, seed=0, batch=2)


def test_losses_read_late_are_those_read_at_once(tmp_path: Path) -> None:
    heard: list[tuple[int, float]] = []
    late = fit(made(Late, tmp_path), on_step=lambda step, loss: heard.append((step, loss)))
    at_once = fit(made(NetworkTraining, tmp_path))
    assert late.loss == at_once.loss
    assert [step for step, _ in heard] == list(range(1, STEPS + 1))
    assert [round(loss, 4) for _, loss in heard] == [row[1] for row in at_once.loss]


@pytest.mark.parametrize("bad_step", [1, 4, STEPS])
@pytest.mark.parametrize("save_seconds", [0.0, 1000.0])
def test_a_late_loss_that_is_not_finite_names_its_step_and_spoils_no_checkpoint(
    bad_step: int, save_seconds: float, tmp_path: Path
) -> None:
    training, heard = made(Late, tmp_path), list[int]()
    assert isinstance(training, Late)
    training.bad_step = bad_step
    folder = tmp_path / "checkpoints"
    with pytest.raises(EvaluationFailed, match=f"the training loss is nan at step {bad_step}$"):
        fit(training, folder=folder, save_seconds=save_seconds, on_step=lambda step, _: heard.append(step))
    assert heard == list(range(1, bad_step))
    kept = [int(path.stem.rpartition("-")[2]) for path in folder.glob("*.safetensors")]
    assert kept == ([bad_step - 1] if save_seconds == 0 and bad_step > 1 else [])


def test_one_step_by_hand_reads_its_losses(tmp_path: Path) -> None:
    training = made(Late, tmp_path)
    assert isinstance(training, Late)
    assert training.learn() == made(NetworkTraining, tmp_path).learn()
    training.bad_step = 2
    with pytest.raises(EvaluationFailed, match="at step 2"):
        training.learn()


def test_losses_that_are_there_are_checked_before_the_weights_move(tmp_path: Path) -> None:
    training = made(NetworkTraining, tmp_path)
    with torch.no_grad():
        training.model.embedding[0, 0] = math.inf
    before = {name: weight.clone() for name, weight in training.parameters.items()}
    with pytest.raises(EvaluationFailed, match="at step 1"):
        training.advance()
    assert all(torch.equal(before[name], weight) for name, weight in training.parameters.items())


def test_a_name_stands_for_its_number() -> None:
    losses = LateLosses(torch.tensor([2.0, 4.0, 6.0]), ("first", "second"), 2.0).read()
    assert losses == Losses((1.0,), {"first": 4.0, "second": 6.0})


def test_a_batch_on_a_device_is_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = tiny.task(tmp_path)
    plain = task.train_batch(3, 5, 4)
    assert all(map(torch.equal, task.train_batch_on("cpu", 3, 5, 4), plain))
    text = torch.from_numpy(task.corpus.train.copy())
    monkeypatch.setattr("evaluators.tasks.language._text_on", lambda folder, device: text)
    gathered = LanguageModelling.train_batch_on(task, "cpu", 3, 5, 4)
    assert all(map(torch.equal, gathered, plain))


@pytest.mark.parametrize("precision", ["float32", "bfloat16", TF32])
def test_products_of_float32_are_as_the_recipe_says(precision: str, tmp_path: Path) -> None:
    recipe = Recipe(precision=precision)
    with computing_in(recipe.precision):
        assert torch.backends.cuda.matmul.allow_tf32 is (precision == TF32)
    assert not torch.backends.cuda.matmul.allow_tf32


def test_on_a_cpu_tf32_is_float32(tmp_path: Path) -> None:
    def trained(precision: str) -> list[list[float]]:
        model, recipe = build(tiny.decoder(), seed=0), Recipe(precision=precision)
        return fit(NetworkTraining(model, tiny.task(tmp_path), steps=2, seed=0, batch=2, recipe=recipe)).loss

    assert trained(TF32) == trained("float32")
