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
