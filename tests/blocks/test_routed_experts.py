"""Routed experts while they train, choice by choice: capacity, room, losses and metrics by brute force."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.blocks.base import Block
from search_spaces.blocks.deepseek_moe import DeepSeekMoE
from search_spaces.blocks.gshard import GShard
from search_spaces.blocks.moe import MoE, RoutedExperts
from search_spaces.blocks.switch import Switch
from search_spaces.ops.experts import hashed_uniform
from tests.blocks.filled import dice, filled

WIDTH = 12
COUNTS = (1, 7, 33, 65)

Choice = tuple[int, float]
"""An expert, and the gate of its output."""


def module_of(spec: Block) -> RoutedExperts:
    module = filled(spec, WIDTH, noise=0.1, dtype=torch.float64)
    assert isinstance(module, RoutedExperts)
    return module.train()


def tokens(batch: int, count: int) -> Tensor:
    return torch.randn(batch, count, WIDTH, generator=dice(4), dtype=torch.float64)


def expert(module: RoutedExperts, number: int, x: Tensor) -> Tensor:
    hidden = F.silu(module.gated[number] @ x) * (module.up[number] @ x)
    return module.down[number] @ hidden


def best(scores: Tensor, count: int) -> list[int]:
    return sorted(range(len(scores)), key=lambda number: -float(scores[number]))[:count]


def softmax_choices(logits: Tensor, top_k: int) -> list[Choice]:
    """The likeliest experts, their probabilities over the sum of all chosen ones."""
    chosen = best(logits, top_k)
    total = sum(float(logits[number].exp()) for number in chosen)
    return [(number, float(logits[number].exp()) / total) for number in chosen]


def read_with_room(
    module: RoutedExperts, x: Tensor, choices: list[list[list[Choice]]], capacity: int
) -> tuple[Tensor, int]:
    """Outputs, and how many choices found no room, when each sequence fills its experts in order."""
    rows, dropped = [], 0
    for row, row_choices in zip(x, choices, strict=True):
        taken, outputs = dict.fromkeys(range(len(module.router)), 0), []
        for token, token_choices in zip(row, row_choices, strict=True):
            y = torch.zeros(WIDTH, dtype=torch.float64)
            for number, gate in token_choices:
                if taken[number] < capacity:
                    taken[number] += 1
                    y = y + gate * expert(module, number, token)
                else:
                    dropped += 1
            outputs.append(y)
        rows.append(torch.stack(outputs))
    return torch.stack(rows), dropped


def auxiliary_loss(
    logits: Tensor, counted: list[int], probabilities: Tensor, *, balance: float, z: float
) -> float:
    experts = logits.shape[-1]
    means = probabilities.flatten(0, -2).mean(0)
    shares = [counted.count(number) / len(counted) for number in range(experts)]
    balanced = experts * sum(share * float(mean) for share, mean in zip(shares, means, strict=True))
    squares = [float(row.exp().sum().log()) ** 2 for row in logits.flatten(0, -2)]
    return balance * balanced + z * sum(squares) / len(squares)


def scalar(value: Tensor | None) -> float:
    assert value is not None
    return float(value.detach())


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("capacity_factor", [0.3, 1.0, 4.0])
def test_switch_reads_as_its_rules_say(count: int, capacity_factor: float) -> None:
    spec = Switch(num_experts=4, expansion=1, capacity_factor=capacity_factor, balance=0.3, z_loss=0.2)
    module, x = module_of(spec), tokens(2, count)
    logits = x @ module.router.detach().T
    choices = [[[(best(row, 1)[0], float(row.softmax(0).max()))] for row in rows] for rows in logits]
    expected, dropped = read_with_room(module, x, choices, ceil(capacity_factor * count / 4))
    mixed = module(x)
    torch.testing.assert_close(mixed.y, expected)
    first = [number for rows in choices for ((number, _),) in rows]
    loss = auxiliary_loss(logits, first, logits.softmax(-1), balance=0.3, z=0.2)
    assert scalar(mixed.loss) == pytest.approx(loss)
    assert mixed.metrics is not None
    assert scalar(mixed.metrics["dropped"]) == pytest.approx(dropped / (2 * count))
    busiest = max(first.count(number) for number in range(4))
    assert scalar(mixed.metrics["load"]) == pytest.approx(4 * busiest / len(first))
    if capacity_factor == 4.0:
        assert dropped == 0


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("capacity_factor", [0.4, 2.0])
def test_gshard_makes_second_choices_at_random_by_their_gates(count: int, capacity_factor: float) -> None:
    spec = GShard(num_experts=4, expansion=1, capacity_factor=capacity_factor, balance=0.3, z_loss=0.1)
    module, x = module_of(spec), tokens(2, count)
    logits = x @ module.router.detach().T
    draws = hashed_uniform(logits)
    choices = []
    for rows, row_draws in zip(logits, draws, strict=True):
        pairs = [softmax_choices(row, 2) for row in rows]
        choices.append(
            [
                pair if 2 * pair[1][1] > float(u) else pair[:1]
                for pair, u in zip(pairs, row_draws, strict=True)
            ]
        )
    expected, dropped = read_with_room(module, x, choices, ceil(capacity_factor * 2 * count / 4))
    mixed = module(x)
    torch.testing.assert_close(mixed.y, expected)
    first = [pair[0][0] for rows in choices for pair in rows]
    loss = auxiliary_loss(logits, first, logits.softmax(-1), balance=0.3, z=0.1)
    assert scalar(mixed.loss) == pytest.approx(loss)
    made = sum(len(pair) for rows in choices for pair in rows)
    assert mixed.metrics is not None
    assert scalar(mixed.metrics["dropped"]) == pytest.approx(dropped / made)


@pytest.mark.parametrize("top_k", [1, 2, 4])
@pytest.mark.parametrize("count", COUNTS)
def test_a_mixture_of_experts_drops_nothing(count: int, top_k: int) -> None:
    spec = MoE(num_experts=4, top_k=top_k, expansion=1, balance=0.2, z_loss=0.1)
    module, x = module_of(spec), tokens(2, count)
    logits = x @ module.router.detach().T
    choices = [[softmax_choices(row, top_k) for row in rows] for rows in logits]
    expected, _ = read_with_room(module, x, choices, capacity=10**6)
    mixed = module(x)
    torch.testing.assert_close(mixed.y, expected)
    chosen = [number for rows in choices for pairs in rows for number, _ in pairs]
    loss = auxiliary_loss(logits, chosen, logits.softmax(-1), balance=0.2, z=0.1)
    assert scalar(mixed.loss) == pytest.approx(loss)
    assert mixed.metrics is not None
    assert scalar(mixed.metrics["dropped"]) == 0


@pytest.mark.parametrize("gate", ["sigmoid", "softmax"])
@pytest.mark.parametrize("shared", [0, 2])
def test_deepseek_chooses_with_its_bias_and_weighs_without(gate: str, shared: int) -> None:
    spec = DeepSeekMoE(
        num_experts=5, top_k=2, shared_experts=shared, expansion=1, gate=gate, gate_scale=1.7, balance=0.2
    )
    module, x = module_of(spec), tokens(2, 17)
    bias = module.get_parameter("bias")
    with torch.no_grad():
        bias.copy_(torch.tensor([0.9, -0.9, 0.0, 0.3, -0.3]))
    logits = x @ module.router.detach().T
    scores = logits.sigmoid() if gate == "sigmoid" else logits.softmax(-1)
    choices, chosen = [], []
    for rows in scores:
        row_choices = []
        for row in rows:
            numbers = best(row + bias.detach(), 2)
            chosen += numbers
            total = sum(float(row[number]) for number in numbers) if gate == "sigmoid" else 1.0
            row_choices.append([(number, 1.7 * float(row[number]) / total) for number in numbers])
        choices.append(row_choices)
    expected, _ = read_with_room(module, x, choices, capacity=10**6)
    for number in range(shared):
        gated, up = (module.get_parameter(f"shared_{name}")[number] for name in ("gated", "up"))
        down = module.get_parameter("shared_down")[:, number]
        expected = expected + (F.silu(x @ gated.T) * (x @ up.T)) @ down.T
    mixed = module(x)
    torch.testing.assert_close(mixed.y, expected)
    probabilities = scores / scores.sum(-1, keepdim=True)
    assert scalar(mixed.loss) == pytest.approx(
        auxiliary_loss(logits, chosen, probabilities, balance=0.2, z=spec.z_loss)
    )
    assert mixed.loss is not None
    (slope,) = torch.autograd.grad(mixed.loss, bias)
    for number in range(5):  # the bias of an expert falls where it is busier than the others
        error = 5 * chosen.count(number) / len(chosen) - 1
        assert float(slope[number]) == pytest.approx(spec.bias_rate * error)


ROUTED: list[Block] = [
    Switch(num_experts=4, expansion=1, capacity_factor=0.5),
    GShard(num_experts=4, expansion=1, capacity_factor=0.5),
    MoE(num_experts=4, top_k=2, expansion=1),
    DeepSeekMoE(num_experts=4, top_k=2, expansion=1),
]
EVERY = pytest.mark.parametrize("spec", ROUTED, ids=lambda spec: type(spec).__name__)


@EVERY
def test_capacities_apply_only_to_training(spec: Block) -> None:
    module, x = module_of(spec), tokens(2, 33)
    trained = module(x)
    with torch.no_grad():
        read_in_training_mode = module(x)
    evaluated = module.eval()(x)
    torch.testing.assert_close(read_in_training_mode.y, evaluated.y)
    assert read_in_training_mode.loss is None
    assert evaluated.metrics is not None
    assert scalar(evaluated.metrics["dropped"]) == 0
    limited = isinstance(spec, (Switch, GShard))
    assert torch.allclose(trained.y, evaluated.y) is not limited
    assert trained.metrics is not None
    assert (scalar(trained.metrics["dropped"]) > 0) is limited


@EVERY
def test_training_depends_on_no_later_token_and_no_other_sequence(spec: Block) -> None:
    module, x = module_of(spec), tokens(2, 64)
    whole = module(x).y
    torch.testing.assert_close(module(x[1:]).y, whole[1:])
    changed = x.clone()
    changed[:, 40:] = -changed[:, 40:]
    torch.testing.assert_close(module(changed).y[:, :40], whole[:, :40])


@EVERY
def test_losses_are_weighted_and_left_out_at_zero(spec: Block) -> None:
    x = tokens(2, 17)

    def loss(balance: float, z: float) -> float:
        changed = replace(spec, balance=balance, z_loss=z)  # type: ignore[call-arg]
        return scalar(module_of(changed)(x).loss)

    assert loss(0, 0) == 0
    assert loss(0.5, 0) > 0
    assert loss(1.0, 0) == pytest.approx(2 * loss(0.5, 0))
    assert loss(0.5, 0.3) == pytest.approx(loss(0.5, 0) + loss(0, 0.3))


@EVERY
def test_loads_lie_between_balanced_and_all_on_one(spec: Block) -> None:
    module, x = module_of(spec), tokens(4, 65)
    metrics = module(x).metrics
    assert metrics is not None
    assert 1 <= scalar(metrics["load"]) <= 4
    same = x[:1, :1].expand(4, 65, WIDTH)  # equal tokens all choose alike
    metrics = module(same).metrics
    assert metrics is not None
    assert scalar(metrics["load"]) == pytest.approx(4 / (1 if isinstance(spec, Switch) else 2))
    assert all(not value.requires_grad for value in metrics.values())
