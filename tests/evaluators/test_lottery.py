"""Lottery tickets: what stays after each round, what rounds begin with, and that zeros stay zero."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from evaluators.compression import lottery
from evaluators.compression.lottery import Lottery, MaskedTraining, kept_after, largest
from evaluators.tasks.recall import Recall
from evaluators.training.fit import fit
from evaluators.training.network_training import NetworkTraining
from evaluators.training.recipe import DEFAULT
from foundation.errors import SettingError
from nas.modifiers.base import layer_matrices, modifier_of
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build

TASK = Recall.make(data=None, length=None, windows=None)
LAYERS = (
    Layer(sequence_mixer=Attention(num_heads=2, num_kv_heads=1, head_dim=8), channel_mixer=SwiGLU()),
    Layer(sequence_mixer=GatedDeltaNet(num_heads=2, head_dim=8, state_dim=8), channel_mixer=SwiGLU()),
)
STEPS, REWIND = 6, 2
COURSE: dict[str, Any] = {"task": TASK, "steps": STEPS, "seed": 0, "batch": 2, "recipe": DEFAULT}


def network() -> Model:
    return build(Decoder(vocab=TASK.vocab, d_model=16, layers=LAYERS), seed=1)


def copied(model: Model) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("together", [True, False])
def test_masks_are_those_of_torch(together: bool) -> None:
    dice = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(6, 11, generator=dice) for name in "ab"}
    weights["b"] *= 3
    masks = {name: torch.ones(6, 11, dtype=torch.bool) for name in "ab"}
    modules = {name: nn.Linear(11, 6, bias=False) for name in "ab"}
    for name, module in modules.items():
        module.weight.data.copy_(weights[name])
    for share in (0.7, 0.4):
        masks = largest(weights, masks, share, together=together)
        gone = (132 if together else 66) - round(share * (132 if together else 66))
        for name, module in modules.items():
            if hasattr(module, "weight_mask"):
                prune.remove(module, "weight")
            module.weight.data.copy_(weights[name])
        pairs = [(module, "weight") for module in modules.values()]
        if together:
            prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=gone)
        else:
            for module, name in pairs:
                prune.l1_unstructured(module, name, amount=gone)
        for name, module in modules.items():
            assert torch.equal(module.weight_mask.bool(), masks[name])


def drawn(monkeypatch: pytest.MonkeyPatch, rounds: int, folder: Path | None = None) -> Any:
    """The model, its weights when each training began, the masks, and whether zeros ever were none."""
    model, begun, masks, broken = network(), [], [], []

    def watched(training: MaskedTraining, **how: Any) -> Any:
        if how.get("until") is None:
            begun.append((training.step, copied(training.model)))
            masks.append(training.masks)
        on_step = how.pop("on_step")

        def look(step: int, loss: float) -> None:
            on_step(step, loss)
            weights = dict(training.model.named_parameters())
            broken.extend(n for n, kept in training.masks.items() if (weights[n][~kept] != 0).any())

        return fit(training, on_step=look, **how)

    monkeypatch.setattr(lottery, "fit", watched)
    losses = Lottery(rounds, 0.8, REWIND, True, COURSE).draw(model, layer_matrices(model), folder)
    assert len(losses) == rounds + 1
    return model, begun, masks, broken


def test_every_round_keeps_its_share_and_begins_with_the_weights_of_the_rewind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, begun, masks, broken = drawn(monkeypatch, rounds=3)
    early = network()
    fit(NetworkTraining(early, **COURSE), until=REWIND)  # what step k has, by another way
    first = copied(early)
    total = sum(mask.numel() for mask in masks[0].values())
    for number, ((step, weights), own) in enumerate(zip(begun, masks, strict=True)):
        assert step == REWIND
        assert sum(int(mask.sum()) for mask in own.values()) == round(kept_after(number, 3, 0.8) * total)
        for name, weight in weights.items():
            assert torch.equal(weight, first[name] * own.get(name, 1))
        if number:
            assert all(not (own[name] & ~masks[number - 1][name]).any() for name in own)
    assert not broken
    weights = copied(model)
    zeros = sum(int((weights[name] == 0).sum()) for name in masks[-1])
    assert zeros == pytest.approx(0.8 * total, abs=1)
    assert any((weights[name] != first[name])[masks[-1][name]].any() for name in masks[-1])


def test_rounds_that_were_stopped_end_as_those_that_were_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = copied(drawn(monkeypatch, 2, tmp_path / "whole")[0])
    begun = 0

    def stopped(training: MaskedTraining, **how: Any) -> Any:
        nonlocal begun
        begun += 1
        if begun == 4:  # the first steps, two rounds, and the third after a step
            fit(training, **{**how, "until": REWIND + 1})
            raise KeyboardInterrupt
        return fit(training, **how)

    monkeypatch.setattr(lottery, "fit", stopped)
    draw = Lottery(2, 0.8, REWIND, True, COURSE)
    model = network()
    with pytest.raises(KeyboardInterrupt):
        draw.draw(model, layer_matrices(model), tmp_path / "out")
    model, told = network(), list[int]()
    draw = replace(draw, on_step=lambda done, loss: told.append(done))
    losses = draw.draw(model, layer_matrices(model), tmp_path / "out")
    assert told == list(range(2 * (STEPS - REWIND) + REWIND + 2, draw.steps + 1))  # what was done counts
    assert all(torch.equal(weight, whole[name]) for name, weight in copied(model).items())
    assert all(loss == loss for loss in losses)  # none is missing


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lottery,steps=10,rewind=10", "rewind must be less than the 10 steps of a training, got 10"),
        ("lottery,sparsity=1", "sparsity must be less than 1"),
        ("lottery,scope=layer", "scope must be one of network, matrix"),
    ],
)
def test_tickets_that_cannot_be_are_refused(text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        modifier_of(text)
