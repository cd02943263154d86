"""Mixers in use: states after any number of tokens, absorbed tokens, rows, views, start values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from search_spaces.blocks.base import Block, State, blocks
from tests.blocks.filled import dice, filled

WIDTH = 20
EXAMPLES = [
    pytest.param(spec, id=f"{name}-{place}")
    for name, kind in blocks.items()
    for place, spec in enumerate(kind.examples())
]
EVERY = pytest.mark.parametrize("spec", EXAMPLES)
REMEMBERING = pytest.mark.parametrize("spec", [case for case in EXAMPLES if case.values[0].state(WIDTH)])


def tokens(batch: int, count: int, seed: int = 2) -> Tensor:
    return torch.randn(batch, count, WIDTH, generator=dice(seed), dtype=torch.float64)


def copied(state: State) -> State:
    return {name: part.clone() for name, part in state.items()}


def near(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@REMEMBERING
@pytest.mark.parametrize("count", [1, 7, 64, 65])
@torch.no_grad()
def test_a_state_has_its_shape_after_any_number_of_tokens(spec: Block, count: int) -> None:
    module = filled(spec, WIDTH, noise=0.1, dtype=torch.float64)
    empty = module.init_state(2, 70)
    layout = {name: (part.shape, part.dtype) for name, part in empty.items()}
    state = module(tokens(2, count), empty, 0).state
    assert state is not None
    assert {name: (part.shape, part.dtype) for name, part in state.items()} == layout
    for t in range(count, count + 3):
        _, state = module.step(tokens(2, 1, seed=t)[:, 0], state, t)
        assert {name: (part.shape, part.dtype) for name, part in state.items()} == layout
    assert all(part.isfinite().all() for part in state.values())
    assert all(part.any() for name, part in state.items())


@REMEMBERING
@torch.no_grad()
def test_a_state_of_prefill_is_that_of_steps(spec: Block) -> None:
    module, x = filled(spec, WIDTH, noise=0.1, dtype=torch.float64), tokens(2, 37)
    read = module(x, module.init_state(2, 40), 0).state
    stepped = module.init_state(2, 40)
    for t in range(37):
        _, stepped = module.step(x[:, t], stepped, t)
    following = tokens(2, 1, seed=3)[:, 0]
    assert read is not None
    near(module.step(following, read, 37)[0], module.step(following, stepped, 37)[0], 1e-9)


@EVERY
@pytest.mark.parametrize("on_device", [False, True], ids=["int", "tensor"])
@torch.no_grad()
def test_what_is_absorbed_is_what_a_step_remembers(spec: Block, on_device: bool) -> None:
    module, x = filled(spec, WIDTH, noise=0.1, dtype=torch.float64), tokens(2, 75)
    for count in (1, 9, 65):
        before = module(x[:, :count], module.init_state(2, 80), 0).state or {}
        position = torch.tensor(count) if on_device else count
        _, stepped = module.step(x[:, count], copied(before), position)
        absorbed = module.absorb(x[:, count], copied(before), position)
        assert absorbed.keys() == stepped.keys()
        for name, part in absorbed.items():
            near(part, stepped[name])
        if before:
            assert not all(torch.equal(part, before[name]) for name, part in absorbed.items())


@EVERY
@torch.no_grad()
def test_rows_of_a_batch_do_not_see_each_other(spec: Block) -> None:
    module, x = filled(spec, WIDTH, noise=0.1, dtype=torch.float64).eval(), tokens(3, 33)
    whole = module(x).y
    for row in range(3):
        near(module(x[row : row + 1]).y, whole[row : row + 1])
    order = torch.tensor([2, 0, 1])
    near(module(x[order]).y, whole[order])


@REMEMBERING
@torch.no_grad()
def test_rows_of_a_state_may_change_places(spec: Block) -> None:
    """What beam search does with a state: its rows are picked anew."""
    module, x = filled(spec, WIDTH, noise=0.1, dtype=torch.float64), tokens(3, 21)
    state = module(x[:, :20], module.init_state(3, 30), 0).state or {}
    expected, _ = module.step(x[:, 20], copied(state), 20)
    order = torch.tensor([1, 1, 2, 0])
    picked = {name: part[order] for name, part in state.items()}
    near(module.step(x[order, 20], picked, 20)[0], expected[order])


@EVERY
@torch.no_grad()
def test_inputs_may_be_views_in_any_order_of_memory(spec: Block) -> None:
    module, x = filled(spec, WIDTH, noise=0.1, dtype=torch.float64), tokens(2, 33)
    large = torch.full((WIDTH + 3, 35, 4), float("nan"), dtype=torch.float64)
    view = large.permute(2, 1, 0)[1:3, 1:34, 2 : WIDTH + 2]
    view.copy_(x)
    near(module(view).y, module(x).y)
    state = module.init_state(2, 40)
    near(module.step(view[:, 0], copied(state), 0)[0], module.step(x[:, 0], state, 0)[0])


@EVERY
@torch.no_grad()
def test_inputs_stay_as_they_are(spec: Block) -> None:
    module, x = filled(spec, WIDTH, noise=0.1, dtype=torch.float64), tokens(2, 9)
    before = x.clone()
    state = module(x, module.init_state(2, 12), 0).state or {}
    module.step(x[:, 0], state, 9)
    assert torch.equal(x, before)


@EVERY
def test_start_values_are_repeatable_and_differ_by_seed(spec: Block) -> None:
    first, again, next_seed = (filled(spec, WIDTH, seed=seed) for seed in (0, 0, 1))
    torch.manual_seed(99)
    late = filled(spec, WIDTH, seed=0)
    random_names = []
    for name, values in first.state_dict().items():
        assert torch.equal(values, again.state_dict()[name])
        assert torch.equal(values, late.state_dict()[name])
        if not torch.equal(values, next_seed.state_dict()[name]):
            random_names.append(name)
    assert random_names
    large = max(first.named_parameters(), key=lambda pair: pair[1].numel())[0]
    assert large in random_names  # the largest parameter is never a constant


@EVERY
@torch.no_grad()
def test_fresh_mixers_neither_vanish_nor_explode(spec: Block) -> None:
    module = filled(spec, 64).eval()
    y = module(torch.randn(4, 65, 64, generator=dice(5))).y
    assert y.isfinite().all()
    assert 0.01 < float(y.std()) < 10


@EVERY
@torch.no_grad()
def test_a_text_that_goes_on_does_not_change_what_was_read(spec: Block) -> None:
    module, x = filled(spec, WIDTH, noise=0.1, dtype=torch.float64), tokens(1, 130)
    whole = module(x).y
    for count in (1, 7, 63, 64, 65):
        near(module(x[:, :count]).y, whole[:, :count], 1e-9)
