"""The contracts of optimizers and schedules, over whatever their folders hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from evaluators.training import checkpoints
from evaluators.training.fit import fit
from evaluators.training.network_training import NetworkTraining
from evaluators.training.optimizers.base import Optimizer, optimizers
from evaluators.training.recipe import Recipe
from evaluators.training.schedules.base import Schedule, schedules
from evaluators.training.schedules.inverse_sqrt import InverseSqrt
from evaluators.training.schedules.linear import Linear
from search_spaces.network.model import build
from search_spaces.network.scaling import ELEMENTWISE, Role, scaled_rate
from tests.evaluators import tiny

STEPS = 9


@pytest.fixture(params=list(optimizers))
def optimizer(request: pytest.FixtureRequest) -> Optimizer:
    return Optimizer.from_word(request.param)


@pytest.fixture(params=list(schedules))
def schedule(request: pytest.FixtureRequest) -> Schedule:
    return Schedule.from_word(request.param)


def parameters() -> dict[str, nn.Parameter]:
    return {
        "matrix": nn.Parameter(torch.full((3, 8), 2.0)),
        "narrow": nn.Parameter(torch.full((3, 2), 2.0)),
        "vector": nn.Parameter(torch.full((8,), 2.0)),
    }


def training(folder: Path, recipe: Recipe, steps: int = STEPS) -> NetworkTraining:
    model = build(tiny.decoder(weight=8), seed=1)
    return NetworkTraining(model, tiny.task(folder), steps=steps, seed=1, batch=4, recipe=recipe)


ROLES = {"matrix": Role("matrix", 8), "narrow": ELEMENTWISE, "vector": ELEMENTWISE}


def test_only_matrices_decay(optimizer: Optimizer) -> None:
    weights = parameters()
    made = optimizer.make(weights, dict.fromkeys(weights, 0.1), ROLES)
    for weight in weights.values():
        weight.grad = torch.zeros_like(weight)
    made.step()
    assert bool((weights["matrix"] < 2).all()) == (optimizer.decay > 0)
    assert torch.equal(weights["narrow"], torch.full((3, 2), 2.0))
    assert torch.equal(weights["vector"], torch.full((8,), 2.0))


def test_rates_are_each_parameters_own(optimizer: Optimizer) -> None:
    weights = parameters()
    rates = {"matrix": 0.1, "narrow": 0.2, "vector": 0.1}
    made = optimizer.make(weights, rates, ROLES)
    seen = {id(weight): group for group in made.param_groups for weight in group["params"]}
    for name, weight in weights.items():
        assert (seen[id(weight)]["peak"], seen[id(weight)]["lr"]) == (rates[name], rates[name])


def test_independent_decay_is_that_of_the_base_width(optimizer: Optimizer) -> None:
    def shrunk(width: int, **settings: Any) -> float:
        weight, role = nn.Parameter(torch.ones(4, width)), Role("matrix", width)
        made = replace(optimizer, **settings).make({"w": weight}, {"w": scaled_rate(0.1, role)}, {"w": role})
        weight.grad = torch.zeros_like(weight)
        made.step()
        return 1 - float(weight.detach().mean())

    assert shrunk(64, independent=True) == pytest.approx(shrunk(64), rel=1e-4)
    assert shrunk(256) == pytest.approx(shrunk(64) / 4, rel=1e-3)
    assert shrunk(256, independent=True) == pytest.approx(shrunk(64), rel=1e-4)


def test_what_has_no_gradient_stays(optimizer: Optimizer) -> None:
    weights = parameters()
    made = optimizer.make(weights, dict.fromkeys(weights, 0.1), ROLES)
    weights["vector"].grad = torch.ones(8)
    made.step()
    assert torch.equal(weights["matrix"], torch.full((3, 8), 2.0))
    assert not torch.equal(weights["vector"], torch.full((8,), 2.0))
    assert weights["matrix"] not in made.state or not made.state[weights["matrix"]]


def test_no_parameters_are_no_error(optimizer: Optimizer) -> None:
    optimizer.make({}, {}, {}).step()


def test_the_state_is_made_of_tensors(optimizer: Optimizer) -> None:
    weights = parameters()
    made = optimizer.make(weights, dict.fromkeys(weights, 0.1), ROLES)
    for weight in weights.values():
        weight.grad = torch.full_like(weight, 3.0)
    made.step()
    for state in made.state.values():
        assert all(isinstance(value, torch.Tensor) for value in state.values())
    squares = optimizer.squared_gradients(made.state[weights["matrix"]])
    assert (squares is not None) == optimizer.keeps_squared_gradients
    assert squares is None or squares.shape == weights["matrix"].shape


def test_a_training_learns_and_continues_from_its_checkpoint(optimizer: Optimizer, tmp_path: Path) -> None:
    recipe = Recipe(optimizer=optimizer)
    whole = training(tmp_path, recipe)
    losses = [row[1] for row in fit(whole).loss]
    assert losses[-1] < losses[0]
    stopped = training(tmp_path, recipe)
    fit(stopped, until=4)
    checkpoints.save(stopped, tmp_path / "kept")
    again = training(tmp_path, recipe)
    assert checkpoints.resume(again, tmp_path / "kept", STEPS) == 4
    fit(again)
    assert again.tensors().keys() == whole.tensors().keys()
    assert all(torch.equal(again.tensors()[name], tensor) for name, tensor in whole.tensors().items())


@given(steps=st.integers(1, 2000), step=st.integers(1, 2000))
@pytest.mark.parametrize("name", list(schedules))
def test_a_share_is_within_zero_and_one_and_grows_in_the_warm_up(name: str, steps: int, step: int) -> None:
    schedule, step = Schedule.from_word(name), min(step, steps)
    share = schedule.share(step, steps)
    assert 0 <= share <= 1
    assert share <= step / schedule.warm_up
    if step <= schedule.shared(steps):
        assert share == schedule.share(step, steps + 17)
    assert schedule.has_horizon or schedule.shared(steps) == steps


def test_more_steps_continue_fewer_as_far_as_they_have_them_in_common(
    schedule: Schedule, tmp_path: Path
) -> None:
    recipe = Recipe(schedule=schedule)
    short = training(tmp_path, recipe, steps=3)
    fit(short, folder=tmp_path / "kept")
    longer = training(tmp_path, recipe, steps=5)
    assert checkpoints.resume(longer, tmp_path / "kept", 5) == schedule.shared(3)


def test_schedules_are_what_they_say() -> None:
    root, linear = InverseSqrt(warm_up=20, constant=100), Linear(warm_up=10, floor=0.2)
    assert [root.share(step, 0) for step in (1, 10, 20, 100, 400)] == [0.05, 0.5, 1.0, 1.0, 0.5]
    assert linear.share(100, 100) == pytest.approx(0.2)
    assert linear.share(50, 100) == pytest.approx(0.6)
    assert linear.share(5, 1000) == 0.5
