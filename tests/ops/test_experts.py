"""Routing, room, hashed_uniform and losses of experts, each in a second formulation."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from search_spaces.blocks.moe import MoE
from search_spaces.ops import experts
from search_spaces.ops.activations import ACTIVATIONS, GATED


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 1000])
@pytest.mark.parametrize("top_k", [1, 2, 3])
@pytest.mark.parametrize("capacity", [1, 7, 40, 10_000])
def test_room_goes_to_the_earlier_token_then_to_the_better_expert(
    count: int, top_k: int, capacity: int
) -> None:
    index = draw(3, count, 4).topk(top_k, dim=-1).indices
    actual = experts.choices_with_room(index, 4, capacity)
    assert torch.equal(actual, experts.choices_with_room_plainly(index, 4, capacity))
    requested = draw(3, count, top_k, seed=1) > 0
    actual = experts.choices_with_room(index, 4, capacity, requested)
    assert torch.equal(actual, experts.choices_with_room_plainly(index, 4, capacity, requested))
    for row in range(3):
        assert experts.counts(index[row][actual[row]], 4).max() <= capacity


def test_room_depends_on_no_later_token_and_on_no_other_sequence() -> None:
    index = draw(3, 60, 4).topk(2, dim=-1).indices
    actual = experts.choices_with_room(index, 4, 20)
    assert torch.equal(experts.choices_with_room(index[:, :41], 4, 20), actual[:, :41])
    assert torch.equal(experts.choices_with_room(index[1:2], 4, 20), actual[1:2])
    assert 0 < actual.sum() < actual.numel()


def test_counts_are_counts() -> None:
    index = draw(3, 17, 5).topk(2, dim=-1).indices
    assert experts.counts(index, 7).tolist() == [int((index == e).sum()) for e in range(7)]
    assert experts.counts(index[:0], 7).tolist() == [0] * 7


def test_coins_are_even_and_independent_of_the_order() -> None:
    logits = draw(20_000, 4)
    u = experts.hashed_uniform(logits)
    assert torch.equal(u, experts.hashed_uniform(logits.clone()))
    assert ((u >= 0) & (u < 1)).all()
    # 20 bins of 1000: the deviation of a fair one is 31, and five of them are exceeded once in 100 000 tests
    filled = (20 * u).long().bincount(minlength=20)
    assert (filled - 1000).abs().max() < 5 * 31
    assert torch.corrcoef(torch.stack((u, *logits.T)))[0, 1:].abs().max() < 5 / 20_000**0.5
    order = torch.randperm(20_000, generator=torch.Generator().manual_seed(1))
    assert torch.equal(experts.hashed_uniform(logits[order]), u[order])
    near = experts.hashed_uniform(logits + 0.05 * draw(20_000, 4, seed=2))
    assert abs(float(torch.corrcoef(torch.stack((u, near)))[0, 1])) < 5 / 20_000**0.5


def test_coins_differ_for_logits_in_another_order() -> None:
    logits = draw(100, 4)
    assert (experts.hashed_uniform(logits) != experts.hashed_uniform(logits.flip(-1))).float().mean() > 0.99


def test_coins_are_the_same_in_every_dtype_that_holds_the_logits() -> None:
    logits = draw(50, 3).bfloat16()
    assert torch.equal(experts.hashed_uniform(logits), experts.hashed_uniform(logits.double()))


@pytest.mark.parametrize("shape", [(7, 4), (3, 65, 4)])
def test_losses_are_their_equations(shape: tuple[int, ...]) -> None:
    logits = draw(*shape)
    index = logits.topk(2, dim=-1).indices
    tokens = logits.reshape(-1, 4).tolist()
    chosen = index.reshape(-1, 2).tolist()
    z = [torch.tensor(token, dtype=torch.float64).exp().sum().log().item() for token in tokens]
    torch.testing.assert_close(
        experts.z_loss(logits).item(), sum(v * v for v in z) / len(z), rtol=1e-5, atol=0
    )
    p = [torch.tensor(token, dtype=torch.float64).softmax(0).tolist() for token in tokens]
    balance = 4 * sum(
        sum(pair.count(e) for pair in chosen) / (2 * len(chosen)) * sum(q[e] for q in p) / len(p)
        for e in range(4)
    )
    torch.testing.assert_close(experts.load_balance(logits, index).item(), balance, rtol=1e-5, atol=0)


@pytest.mark.parametrize("count", [1, 2, 33])
@pytest.mark.parametrize("top_k", [1, 2, 4])
@pytest.mark.parametrize("biased", [False, True])
def test_all_forms_agree_on_slices(count: int, top_k: int, biased: bool) -> None:
    x, logits = draw(count, 6).double(), draw(count, 4, seed=1).double()
    gated, up = (draw(5, 9, 8, seed=s).double()[:4, :7, :6] for s in (2, 3))
    down = draw(5, 8, 9, seed=4).double()[:4, :6, :7]
    biases = [draw(4, width, seed=9).double() for width in (7, 7, 6)] if biased else [None] * 3
    inside = experts.Inside(GATED["clamped_silu" if biased else "silu"], *biases)
    arguments = (x, *experts.route(logits, top_k), experts.ExpertWeights(gated, up, down), inside)
    plain = experts.expert_mixture_plainly(*arguments)
    for form in (experts.expert_mixture, experts.expert_mixture_fetched):
        torch.testing.assert_close(form(*arguments), plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_grouped_kernel_is_the_loop(dtype: torch.dtype) -> None:
    x, weights = draw(33, 8).to(dtype), [draw(4, *s, seed=i).to(dtype) for i, s in enumerate([(16, 8)] * 2)]
    down, index = draw(4, 8, 16, seed=4).to(dtype), draw(33, 4, seed=5).topk(2).indices
    ends = experts.counts(index, 4).cumsum(0)
    rows = x[index.flatten().argsort(stable=True) // 2]
    matrices, expert = experts.ExpertWeights(*weights, down), index.flatten().sort().values
    biases = (draw(4, width, seed=6).to(dtype) for width in (16, 16, 8))
    inside = experts.Inside(GATED["clamped_silu"], *biases)
    actual = experts._grouped(rows, ends, matrices, inside, expert)
    torch.testing.assert_close(actual, experts._looped(rows, ends, matrices, inside))


@pytest.mark.parametrize("count", [1, 9])
@pytest.mark.filterwarnings("ignore")
def test_blocks_of_experts_can_be_exported(count: int) -> None:
    module = MoE(num_experts=3, top_k=2, expansion=1.5).build(10)
    with torch.no_grad():
        module.reset_parameters(torch.Generator().manual_seed(0))

        class Outputs(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.module = module

            def forward(self, x: Tensor) -> Tensor:
                return self.module(x).y

        x, next_x = draw(1, count, 10), draw(1, count, 10, seed=1)
        exported = torch.export.export(Outputs(), (x,)).module()
        torch.testing.assert_close(exported(next_x), module(next_x).y)


def test_gates_of_zero_drop_a_choice() -> None:
    x, logits = draw(9, 6), draw(9, 4, seed=1)
    weights = draw(4, 5, 6, seed=2), draw(4, 5, 6, seed=3), draw(4, 6, 5, seed=4)
    gates, index = experts.route(logits, 2)
    gates = gates * (draw(9, 2, seed=5) > 0)
    fast = experts.expert_mixture(x, gates, index, experts.ExpertWeights(*weights))
    torch.testing.assert_close(
        fast, experts.expert_mixture_plainly(x, gates, index, experts.ExpertWeights(*weights))
    )
    gone = (gates == 0).all(-1)
    assert gone.any()
    assert torch.equal(fast[gone], torch.zeros_like(fast[gone]))


def test_functions_between_matrices_can_be_read_by_every_compiler() -> None:
    assert not any(isinstance(each, partial) for each in (*ACTIVATIONS.values(), *GATED.values()))
    gate, up = torch.randn(2, 7)
    for name, function in ACTIVATIONS.items():
        assert torch.equal(GATED[name](gate, up), function(gate) * up)
