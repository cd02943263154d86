"""Channel mixers beyond their references: losses, capacities, metrics, special cases, balance."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

os.environ.setdefault("HF_HUB_OFFLINE", "1")
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func as mixtral_loss
from transformers.models.switch_transformers.modeling_switch_transformers import (
    load_balancing_loss_func,
    router_z_loss_func,
)

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Block, Mixed
from search_spaces.blocks.deepseek_moe import DeepSeekMoE
from search_spaces.blocks.gelu_mlp import MLP
from search_spaces.blocks.gshard import GShard
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.blocks.switch import Switch
from search_spaces.references import Weights
from search_spaces.references.channels import expert
from tests.blocks.filled import dice, filled

WIDTH, COUNT = 24, 65


def sliced(spec: Block, d_model: int, large: Block, seed: int = 0) -> tuple[nn.Module, Weights]:
    """The module, and slices of the weights of a larger block."""
    whole = filled(large, WIDTH, seed=seed, noise=0.1)
    module, values = spec.build(d_model), dict(whole.named_parameters())
    return module, {
        name: values[name].detach()[tuple(map(slice, parameter.shape))]
        for name, parameter in module.named_parameters()
    }


def inputs(d_model: int, batch: int = 3, count: int = COUNT) -> Tensor:
    return torch.randn(batch, count, d_model, generator=dice(7)).requires_grad_()


def test_the_losses_of_switch_are_those_of_switch_transformers() -> None:
    spec = Switch(balance=0.3, z_loss=0.7)
    module, weights = sliced(spec, WIDTH, Switch())
    x = inputs(WIDTH, batch=1)
    loss = functional_call(module, weights, (x,)).loss
    logits = F.linear(x, weights["router"])
    balance = load_balancing_loss_func(logits.softmax(-1), logits.argmax(-1))
    torch.testing.assert_close(loss, 0.3 * balance + 0.7 * router_z_loss_func(logits))
    only = functional_call(replace(spec, balance=0).build(WIDTH), weights, (inputs(WIDTH),)).loss
    torch.testing.assert_close(only, 0.7 * router_z_loss_func(F.linear(inputs(WIDTH), weights["router"])))


def test_the_loss_of_moe_is_mixtrals() -> None:
    spec = MoE(num_experts=4, top_k=2, balance=0.5)
    module, weights = sliced(spec, WIDTH, spec)
    x = inputs(WIDTH)
    logits = F.linear(x.flatten(0, 1), weights["router"])
    # transformers counts a token once per choice; ours are shares of all choices, so that balance is 1
    expected = mixtral_loss((logits,), num_experts=4, top_k=2) / 2
    torch.testing.assert_close(functional_call(module, weights, (x,)).loss, 0.5 * expected)


def test_the_z_loss_of_moe_is_added_to_its_balance() -> None:
    module, weights = sliced(MoE(top_k=2, z_loss=0.1), WIDTH, MoE(top_k=2))
    plain, _ = sliced(MoE(top_k=2), WIDTH, MoE(top_k=2))
    x = inputs(WIDTH)
    more = functional_call(module, weights, (x,)).loss - functional_call(plain, weights, (x,)).loss
    torch.testing.assert_close(more, 0.1 * router_z_loss_func(F.linear(x, weights["router"])))


def test_the_balance_of_gshard_counts_first_choices() -> None:
    spec = GShard(balance=0.3)
    module, weights = sliced(spec, WIDTH, GShard())
    x = inputs(WIDTH, batch=1)
    logits = F.linear(x, weights["router"])
    expected = 0.3 * load_balancing_loss_func(logits.softmax(-1), logits.argmax(-1))
    torch.testing.assert_close(functional_call(module, weights, (x,)).loss, expected)


def test_the_second_expert_of_gshard_is_kept_as_often_as_its_gate_says() -> None:
    spec = GShard(num_experts=4, expansion=0.2, capacity_factor=100)
    module, weights = sliced(spec, WIDTH, GShard())
    x = inputs(WIDTH, batch=8, count=1000)
    logits = F.linear(x, weights["router"])
    gates = logits.topk(2, dim=-1).values.softmax(-1)
    kept = functional_call(module, weights, (x,)).y
    with torch.no_grad():
        whole = functional_call(module, weights, (x,)).y
    share = ((kept - whole).abs().amax(-1) < 1e-6).float().mean()
    expected = (2 * gates[..., 1]).mean()
    assert abs(share - expected) < 5 * 0.5 / 8000**0.5


CAPPED = [Switch(num_experts=4, capacity_factor=0.5), GShard(num_experts=4, capacity_factor=0.5)]


@pytest.mark.parametrize("spec", CAPPED, ids=str)
class TestCapacity:
    def run(self, spec: Block, x: Tensor, *, learning: bool) -> Mixed:
        module, weights = sliced(spec, WIDTH, spec)
        module.train(learning)
        return functional_call(module, weights, (x,))

    def test_tokens_are_dropped_in_training_only(self, spec: Block) -> None:
        x = inputs(WIDTH)
        dropped = self.run(spec, x, learning=True).metrics
        assert dropped is not None
        assert 0.3 < dropped["dropped"] < 0.7
        served = self.run(spec, x, learning=False)
        assert served.metrics is not None
        assert served.metrics["dropped"] == 0
        with torch.no_grad():
            assert torch.equal(self.run(spec, x, learning=True).y, served.y)
        alone = self.run(spec, x[:1, :1], learning=False).y
        torch.testing.assert_close(alone, served.y[:1, :1], rtol=1e-4, atol=1e-6)

    def test_dropping_depends_on_no_later_token_and_no_other_sequence(self, spec: Block) -> None:
        x = inputs(WIDTH)
        changed = x.detach().clone()
        changed[:, 40:] += 1
        changed[2] += 1
        actual, after_change = (self.run(spec, part, learning=True).y for part in (x, changed))
        torch.testing.assert_close(actual[:2, :40], after_change[:2, :40])
        assert not torch.allclose(actual[:2, 40:], after_change[:2, 40:])

    def test_training_twice_gives_the_same(self, spec: Block) -> None:
        x = inputs(WIDTH)
        before = torch.get_rng_state()
        assert torch.equal(self.run(spec, x, learning=True).y, self.run(spec, x, learning=True).y)
        assert torch.equal(before, torch.get_rng_state())


ROUTED: list[Block] = [
    MoE(top_k=2),
    Switch(),
    GShard(),
    DeepSeekMoE(),
    MoE(num_experts=1),
    Switch(num_experts=1),
]


@pytest.mark.parametrize("spec", ROUTED, ids=str)
@torch.no_grad()
def test_metrics_report_the_load(spec: Any) -> None:
    module, weights = sliced(spec, WIDTH, spec)
    weights["router"] = torch.zeros_like(weights["router"])
    weights["router"][0] = 1.0
    x = inputs(WIDTH).detach().abs()  # so expert 0 has the highest score for every token
    weights |= {"bias": torch.zeros(spec.num_experts)} if "bias" in weights else {}
    metrics = functional_call(module, weights, (x,)).metrics
    assert metrics is not None
    top_k = {"Switch": 1, "GShard": 2}.get(type(spec).__name__) or spec.top_k
    assert metrics["load"].item() == pytest.approx(spec.num_experts / top_k)
    assert not any(value.requires_grad for value in metrics.values())


@pytest.mark.parametrize("kind", [MoE, Switch, DeepSeekMoE])
def test_one_expert_is_the_dense_perceptron(kind: Any) -> None:
    spec = kind(num_experts=1, **({} if kind is Switch else {"top_k": 1}))
    spec = replace(spec, expansion=2, **({"shared_experts": 0} if kind is DeepSeekMoE else {}))
    spec = replace(spec, capacity_factor=1) if kind is Switch else spec
    module, weights = sliced(spec, WIDTH, spec)
    dense = SwiGLU(expansion=2).build(WIDTH)
    x = inputs(WIDTH)
    expected = functional_call(dense, {name: weights[name][0] for name in ("gated", "up", "down")}, (x,)).y
    torch.testing.assert_close(functional_call(module, weights, (x,)).y, expected, rtol=1e-5, atol=1e-6)


def test_shared_experts_alone_are_a_wider_dense_perceptron() -> None:
    spec = DeepSeekMoE(num_experts=2, shared_experts=3, expansion=0.5, gate_scale=1e-30)
    module, weights = sliced(spec, WIDTH, spec)
    dense = SwiGLU(expansion=1.5).build(WIDTH)
    joined = {name: weights[f"shared_{name}"].flatten(0, 1) for name in ("gated", "up")}
    x = inputs(WIDTH)
    expected = functional_call(dense, joined | {"down": weights["shared_down"].flatten(1)}, (x,)).y
    torch.testing.assert_close(functional_call(module, weights, (x,)).y, expected, rtol=1e-5, atol=1e-6)


class TestBiasBalancing:
    spec = DeepSeekMoE(num_experts=6, top_k=2, expansion=0.3, bias_rate=0.5)

    def test_the_gradient_is_the_load_error_and_the_loss_is_zero(self) -> None:
        module = self.spec.build(WIDTH)
        with torch.no_grad():
            module.reset_parameters(dice(0))
        mixed = module(inputs(WIDTH))
        assert mixed.loss is not None
        assert mixed.loss.item() == 0
        mixed.loss.backward()
        scores = F.linear(inputs(WIDTH), module.get_parameter("router")).sigmoid()
        chosen = scores.topk(2, dim=-1).indices.flatten().tolist()
        expected = [0.5 * (6 * chosen.count(e) / len(chosen) - 1) for e in range(6)]
        torch.testing.assert_close(module.get_parameter("bias").grad, torch.tensor(expected))
        assert module.get_parameter("router").grad is None or not module.get_parameter("router").grad.any()

    def test_the_bias_moves_the_choice_and_not_the_gates(self) -> None:
        module, weights = sliced(self.spec, WIDTH, self.spec)
        x = inputs(WIDTH)
        weights["bias"] = torch.zeros(6)
        plain = functional_call(module, weights, (x,)).y
        torch.testing.assert_close(
            functional_call(module, weights | {"bias": torch.full((6,), 3.0)}, (x,)).y, plain
        )
        forced = functional_call(module, weights | {"bias": torch.tensor([9.0, 8, 0, 0, 0, 0])}, (x,)).y
        scores = F.linear(x, weights["router"]).sigmoid()[..., :2]
        g = scores / scores.sum(-1, keepdim=True)
        routed = sum(g[..., e : e + 1] * expert(weights, e, x) for e in range(2))
        hidden = F.silu(x @ weights["shared_gated"][0].T) * (x @ weights["shared_up"][0].T)
        torch.testing.assert_close(
            forced, routed + hidden @ weights["shared_down"][:, 0].T, rtol=1e-4, atol=1e-5
        )

    def test_an_ordinary_optimizer_balances_the_load(self) -> None:
        module = self.spec.build(WIDTH)
        x = inputs(WIDTH, count=200).detach() + 0.7  # a mean that makes some experts popular
        with torch.no_grad():
            module.reset_parameters(dice(3))
        optimizer = torch.optim.Adam([module.get_parameter("bias")], lr=0.01)
        loads = []
        for _ in range(120):
            optimizer.zero_grad()
            mixed = module(x)
            mixed.loss.backward()
            optimizer.step()
            loads.append(float(mixed.metrics["load"]))
        assert loads[0] > 1.8
        assert max(loads[-10:]) < 1.25


ILLEGAL: list[tuple[Block, dict[str, Any], str]] = [
    (MLP(), {"activation": "tanh"}, "activation"),
    (MLP(), {"expansion": 0}, "expansion"),
    (MLP(), {"expansion": 0.001}, "expansion"),
    (MoE(), {"z_loss": -1}, "z_loss"),
    (MoE(), {"num_experts": 0}, "num_experts"),
    (Switch(), {"capacity_factor": 0}, "capacity_factor"),
    (Switch(), {"num_experts": 2.0}, "num_experts"),
    (GShard(), {"num_experts": 1}, "num_experts"),
    (GShard(), {"capacity_factor": float("nan")}, "capacity_factor"),
    (DeepSeekMoE(), {"top_k": 9}, "top_k"),
    (DeepSeekMoE(), {"shared_experts": -1}, "shared_experts"),
    (DeepSeekMoE(), {"gate": "relu"}, "gate"),
    (DeepSeekMoE(), {"gate_scale": 0}, "gate_scale"),
    (DeepSeekMoE(), {"bias_rate": -0.1}, "bias_rate"),
    (DeepSeekMoE(), {"expansion": 0.001}, "expansion"),
]


@pytest.mark.parametrize(("spec", "changes", "word"), ILLEGAL, ids=str)
def test_illegal_values_are_refused_by_name(spec: Block, changes: dict[str, Any], word: str) -> None:
    with pytest.raises(IllegalArchitecture, match=word):
        replace(spec, **changes).check(WIDTH)
