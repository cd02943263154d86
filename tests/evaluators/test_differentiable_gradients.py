"""Gradients through an unrolled step, curvature, samples and expected costs, against what they stand for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evaluators.differentiable.expected_cost import ExpectedCost, expected_cost
from evaluators.differentiable.gradients import (
    Weights,
    dominant_eigenvalue,
    first_order,
    hessian_product,
    second_order,
    weight_gradient,
)
from evaluators.differentiable.sampling import hard_shares, relaxed_shares, step_dice, temperature_at
from foundation.errors import SettingError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.skip import Skip
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space
from search_spaces.mixture import Mixture
from search_spaces.mixture.conditions import Genes
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario
from search_spaces.spaces.laptop import laptop
from search_spaces.supernet import Supernet
from tests.evaluators.tiny import Fade


def smooth(width: int = 6) -> Space:
    """Blocks that can be differentiated twice; rows below 8 are not rounded."""
    layer = Layer(
        sequence_mixer=one_of(Fade(), Skip()),
        channel_mixer=one_of(SwiGLU(expansion=one_of(0.5, 1)), None),
        bits=Bits(weight=one_of(16, 4)),
    )
    return Space(Decoder(vocab=11, d_model=one_of(4, width), layers=repeat(layer, depths=(1, 2))))


def problem(seed: int = 0, width: int = 6) -> tuple[Tensor, Weights, list[Tensor], Mixture]:
    """Logits, weights and two batches, all in float64."""
    supernet = Supernet(smooth(width), seed=seed)
    mixture, dice = Mixture(supernet), torch.Generator().manual_seed(seed)
    logits = 0.5 * torch.randn(mixture.genes.size, generator=dice, dtype=torch.float64)
    weights = {name: weight.detach().double() for name, weight in supernet.weights.items()}
    return logits, weights, [torch.randint(11, (3, 8), generator=dice) for _ in range(2)], mixture


def loss_on(
    mixture: Mixture, tokens: Tensor, logits: Tensor, weights: Weights, base: Weights | None = None
) -> Tensor:
    """In nats; with a `base`, weights are the base as it is rounded, and what they differ from it."""
    shift = None if base is None else {name: weight - base[name] for name, weight in weights.items()}
    shares = mixture.shares(logits)
    read = mixture(tokens[:, :-1], shares, weights=weights if base is None else base, shift=shift)
    return torch.nn.functional.cross_entropy(read.flatten(0, 1), tokens[:, 1:].flatten())


@pytest.mark.parametrize("rounded", [False, True], ids=["plain", "rounded"])
@pytest.mark.parametrize("seed", range(3))
def test_the_second_order_gradient_is_that_of_the_unrolled_step(seed: int, rounded: bool) -> None:
    logits, weights, (one, other), mixture = problem(seed, width=12 if rounded else 6)
    base, rate = weights if rounded else None, 0.3

    def train(at: Tensor, w: Weights) -> Tensor:
        return loss_on(mixture, one, at, w, base)

    def valid(at: Tensor, w: Weights) -> Tensor:
        return loss_on(mixture, other, at, w, base)

    leaf, leaves = (
        logits.clone().requires_grad_(),
        {n: w.clone().requires_grad_() for n, w in weights.items()},
    )
    inner = torch.autograd.grad(
        train(leaf, leaves), tuple(leaves.values()), create_graph=True, materialize_grads=True
    )
    ahead = {n: w - rate * g for (n, w), g in zip(leaves.items(), inner, strict=True)}
    (exact,) = torch.autograd.grad(valid(leaf, ahead), leaf)
    found = second_order(train, valid, logits, weights, rate=rate, reach=1e-4)
    assert float((found.gradient - exact).norm() / exact.norm()) < 1e-6
    plain = first_order(valid, logits, weights)
    assert float((plain.gradient - exact).norm() / exact.norm()) > 1e-2  # the second order is worth something
    published = second_order(train, valid, logits, weights, rate=rate)
    assert float((published.gradient - exact).norm() / exact.norm()) < 1e-2


def test_weights_are_not_moved_by_looking_ahead() -> None:
    logits, weights, (one, other), mixture = problem()
    before = {name: weight.clone() for name, weight in weights.items()}
    second_order(
        lambda at, w: loss_on(mixture, one, at, w),
        lambda at, w: loss_on(mixture, other, at, w),
        logits,
        weights,
        rate=0.1,
    )
    assert all(torch.equal(weights[name], before[name]) for name in weights)
    gradient = weight_gradient(lambda at, w: loss_on(mixture, one, at, w), logits, weights)
    assert {name: g.shape for name, g in gradient.items()} == {n: w.shape for n, w in weights.items()}


MATRIX = torch.randn(7, 7, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def mild(at: Tensor) -> Tensor:
    """A loss of softmax mixtures that `torch.func` can differentiate twice."""
    return (torch.tanh(MATRIX @ at.softmax(0)) ** 2).sum() + 0.3 * (at**4).mean()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("seed", range(4))
def test_the_dominant_eigenvalue_is_that_of_the_hessian(seed: int) -> None:
    dice = torch.Generator().manual_seed(seed)
    at, start = (torch.randn(7, generator=dice, dtype=torch.float64) for _ in range(2))
    hessian = torch.func.hessian(mild)(at)
    values = torch.linalg.eigvalsh(hessian)
    dominant = float(values[values.abs().argmax()])

    def slope(where: Tensor) -> Tensor:
        return torch.func.grad(mild)(where)

    product = hessian_product(slope, at, start, reach=1e-4)
    torch.testing.assert_close(product, hessian @ start, rtol=1e-5, atol=1e-7)
    value, vector = dominant_eigenvalue(slope, at, start, rounds=500, reach=1e-4, tolerance=1e-9)
    assert value == pytest.approx(dominant, rel=1e-4)
    torch.testing.assert_close(hessian @ vector, value * vector, rtol=1e-2, atol=1e-2 * abs(value))


def test_the_dominant_eigenvalue_of_a_mixture() -> None:
    logits, weights, (_, tokens), mixture = problem(1)

    def valid(at: Tensor) -> Tensor:
        return loss_on(mixture, tokens, at, weights)

    hessian = torch.autograd.functional.hessian(valid, logits)
    values = torch.linalg.eigvalsh(hessian)
    dominant = float(values[values.abs().argmax()])

    def slope(at: Tensor) -> Tensor:
        return first_order(lambda a, w: valid(a), at, weights).gradient

    start = torch.randn(len(logits), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    value, _ = dominant_eigenvalue(slope, logits, start, rounds=300, reach=1e-3, tolerance=1e-8)
    assert value == pytest.approx(dominant, rel=1e-3)


def test_a_flat_loss_has_no_curvature() -> None:
    value, _ = dominant_eigenvalue(torch.zeros_like, torch.zeros(3), torch.ones(3))
    assert value == 0.0


def test_hard_samples_are_corners_with_the_right_frequencies() -> None:
    genes = Genes(smooth())
    logits = torch.randn(genes.size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    shares, count = genes.shares(logits), 4000
    seen = torch.zeros_like(shares)
    for step in range(count):
        sample = hard_shares(genes, logits, 0.7, step_dice(0, step, "x"))
        assert all(sorted(row)[-1] > 0.999 and sum(row) < 1.001 for row in genes.table(sample, 0.0).tolist())
        seen += sample
    # 5 standard deviations of a binomial share: false alarms once in 100,000 runs
    assert ((seen / count - shares).abs() < 5 * (shares * (1 - shares) / count).sqrt()).all()


def test_gradients_of_hard_samples_are_those_of_relaxed_ones() -> None:
    genes = Genes(smooth())
    logits = torch.randn(genes.size, dtype=torch.float64).requires_grad_()
    weigh = torch.randn(genes.size, dtype=torch.float64)
    found = [
        torch.autograd.grad((weigh * sample(genes, logits, 0.7, step_dice(1, 2, "y"))).sum(), logits)[0]
        for sample in (hard_shares, relaxed_shares)
    ]
    assert torch.equal(*found)
    # two options whose noisy logits differ by 1e-6 would still be mixed: the seed of a test rules that out
    cold = relaxed_shares(genes, logits.detach(), 1e-6, step_dice(1, 2, "y"))
    hard = hard_shares(genes, logits.detach(), 1e-6, step_dice(1, 2, "y"))
    torch.testing.assert_close(cold, hard, rtol=0, atol=1e-6)


def test_chance_is_told_by_seed_step_and_purpose() -> None:
    def first(*about: object) -> float:
        return float(torch.rand(1, generator=step_dice(*about)))  # type: ignore[arg-type]

    told = [first(seed, step, name) for seed in (0, 1) for step in (0, 1, 11) for name in ("a", "b")]
    assert max(Counter(told).values()) == 1
    assert first(1, 1, "a") == first(1, 1, "a")
    assert [temperature_at(i, 3, 5.0, 1.0) for i in range(4)] == [5.0, 3.0, 1.0, 1.0]


COUNTED = ("weight_bytes", "state_bytes", "params", "prefill_flops")


@pytest.mark.parametrize("name", COUNTED)
def test_with_all_weight_on_one_architecture_a_cost_is_its_own(name: str) -> None:
    space, scenario = laptop(), Scenario(prompt=40, new_tokens=3)
    cost = expected_cost(space, lambda specs: [getattr(spec.cost(scenario), name) for spec in specs])
    assert cost.exact
    genes, dice = Genes(space), Random(8)
    for _ in range(25):
        genotype = space.sample(dice)
        found = float(cost(genes.one_hot(genotype)))
        assert found == pytest.approx(getattr(space.close(genotype).cost(scenario), name), rel=1e-9)


def routed() -> Space:
    layer = Layer(
        sequence_mixer=one_of(
            ShortConv(kernel=one_of(2, 3)), Attention(num_heads=1, num_kv_heads=1, head_dim=4)
        ),
        channel_mixer=one_of(None, SwiGLU(expansion=one_of(1, 2)), MoE(num_experts=2, top_k=1)),
        bits=Bits(weight=one_of(16, 4, name="w"), state=one_of(16, 8)),
        routing=one_of(None, MixtureOfDepths(capacity=0.5)),
    )
    return Space(Decoder(vocab=11, d_model=one_of(8, 12), layers=repeat(layer, depths=(1, 2))))


@lru_cache(maxsize=4)
def priced(name: str) -> tuple[ExpectedCost, list[tuple[Genotype, float]]]:
    """A cost, and its value for every architecture of `routed`."""
    space, scenario = routed(), Scenario(prompt=9, new_tokens=2)

    def total(specs: Sequence[Decoder]) -> list[float]:
        return [float(getattr(spec.cost(scenario), name)) for spec in specs]

    genotypes = list(space.enumerate())
    values = total([space.close(genotype) for genotype in genotypes])
    return expected_cost(space, total), list(zip(genotypes, values, strict=True))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), name=st.sampled_from(["weight_bytes", "state_bytes"]))
def test_the_expectation_is_the_mean_over_all_architectures(seed: int, name: str) -> None:
    genes, (cost, everything) = Genes(routed()), priced(name)
    logits = torch.randn(genes.size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    shares = genes.shares(logits)
    by_gene = {
        gene.path: dict(zip(gene.labels, shares[genes.slice(gene)].tolist(), strict=True))
        for gene in genes.genes
    }
    mean = total = 0.0
    for genotype, value in everything:
        chance = math.prod(by_gene[path][label] for path, label in genotype.genes.items())
        mean, total = mean + chance * value, total + chance
    assert total == pytest.approx(1.0)
    assert float(cost(shares)) == pytest.approx(mean, rel=1e-9)
    leaf = logits.requires_grad_()
    (slope,) = torch.autograd.grad(cost(genes.shares(leaf)), leaf)
    assert slope.isfinite().all()
    assert slope.any()


def test_a_cost_that_does_not_add_up_says_so() -> None:
    layer = Layer(sequence_mixer=one_of(ShortConv(kernel=2), ShortConv(kernel=4)), shared="one")
    twice = Space(Decoder(vocab=11, d_model=8, layers=one_of((layer,), (layer, layer), name="depth")))
    with_names = Space(
        Decoder(
            vocab=11,
            d_model=8,
            layers=repeat(Layer(sequence_mixer=ShortConv(kernel=2), shared="one"), depths=(1, 2)),
        )
    )
    assert twice.size() == 6  # two of which share unequal layers, and are refused
    cost = expected_cost(with_names, lambda specs: [spec.cost(Scenario()).weight_bytes for spec in specs])
    assert not cost.exact
    assert cost.deviation > 0.01
    product = expected_cost(with_names, lambda specs: [float(len(spec.layers)) ** 2 for spec in specs])
    assert product.deviation == pytest.approx(0.5)  # 4 layers squared are priced as 2


def test_a_cost_must_be_finite() -> None:
    with pytest.raises(SettingError, match="finite"):
        expected_cost(smooth(), lambda specs: [math.inf for _ in specs])
