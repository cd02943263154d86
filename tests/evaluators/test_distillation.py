"""Distillation: its losses are their formulas, zeros stay, and a training that was stopped ends the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from evaluators.compression.distillation import Distillation, Mixture, paired, soft_loss, streams
from evaluators.tasks.recall import Recall
from evaluators.training import fit as fitting
from evaluators.training.fit import fit
from evaluators.training.recipe import DEFAULT
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build

LAYER = Layer(sequence_mixer=Attention(num_heads=2, num_kv_heads=1, head_dim=8), channel_mixer=SwiGLU())
TASK = Recall.make(data=None, length=None, windows=None)


def network(width: int = 16, layers: int = 2, seed: int = 1) -> Model:
    return build(Decoder(vocab=TASK.vocab, d_model=width, layers=(LAYER,) * layers), seed=seed)


def distillation(student: Model, mixture: Mixture, teacher: Model | None = None) -> Distillation:
    return Distillation(
        student,
        teacher or network(seed=2),
        TASK,
        mixture,
        steps=4,
        seed=0,
        batch=2,
        recipe=DEFAULT,
    )


def test_the_soft_loss_is_the_divergence_at_its_temperature() -> None:
    said, told = torch.randn(5, 7), torch.randn(5, 7)
    p, q = (told / 3).softmax(-1), (said / 3).softmax(-1)
    expected = 9 * (p * (p / q).log()).sum(-1).mean()
    torch.testing.assert_close(soft_loss(said, told, 3.0), expected)
    assert float(soft_loss(told, told, 3.0)) == pytest.approx(0, abs=1e-6)


def test_all_terms_are_added_with_their_weights() -> None:
    student, teacher = network(), network(layers=4, seed=2)
    mixture = Mixture(temperature=2.0, soft=5.0, hard=2.0, cosine=1.0)
    training = distillation(student, mixture, teacher)
    found = training.gradients().values[-1]
    tokens, targets = TASK.train_batch(0, 0, 2)
    judged = targets != -100
    with streams(student) as own, streams(teacher) as other, torch.no_grad():
        from evaluators.training.network_training import rounded_model

        said = student(tokens)
        told = teacher(tokens)
        rounded = rounded_model(student)
        with streams(rounded) as own_rounded:
            said = rounded(tokens)
    pairs = list(paired(own_rounded, other))
    assert len(own) == len(pairs) == 2
    assert [goal is other[index] for (_, goal), index in zip(pairs, (1, 3), strict=True)] == [True, True]
    cosine = torch.stack(
        [(1 - F.cosine_similarity(h[judged], goal[judged], dim=-1)).mean() for h, goal in pairs]
    ).mean()
    expected = (
        2 * F.cross_entropy(said[judged], targets[judged])
        + 5 * soft_loss(said[judged], told[judged], 2.0)
        + cosine
    )
    torch.testing.assert_close(found, expected)


def test_a_student_of_another_width_learns_hidden_states_by_a_linear_map() -> None:
    training = distillation(network(width=8), Mixture(soft=0.0, hard=0.0, hidden=1.0))
    losses = []
    for _ in range(3):
        training.step = 0  # the same batch
        losses.append(float(training.gradients().values[-1]))
        training.advance()
    assert losses[-1] < losses[0]
    assert training.parameters["map.1"].shape == (16, 8)


def test_weights_that_were_pruned_stay_zero() -> None:
    student = network()
    weight = dict(student.named_parameters())["layers.1.channel_mixer.mixer.up"]
    with torch.no_grad():
        weight[:, ::2] = 0
    before = weight.detach().clone()
    fit(distillation(student, Mixture()))
    assert not weight[:, ::2].any()
    assert not torch.equal(weight, before)


def test_a_training_that_was_stopped_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "SAVE_SECONDS", 0.0)
    whole, stopped, resumed = network(), network(), network()
    mixture = Mixture(hidden=1.0)
    fit(distillation(whole, mixture))

    def stop(step: int, loss: float) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(distillation(stopped, mixture), folder=tmp_path, on_step=stop)
    curve = fit(distillation(resumed, mixture), folder=tmp_path)
    assert len(curve.loss) < 4
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    assert (
        distillation(network(), Mixture(hidden=2.0)).trajectory.digest
        != distillation(network(), mixture).trajectory.digest
    )
