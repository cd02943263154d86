"""The mixture of all architectures: with all weight on one it is that one, and its gradients are right."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from foundation.errors import SpaceError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gelu_mlp import MLP
from search_spaces.blocks.long_conv import LongConv
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.skip import Skip
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.serialization import from_json, to_json
from search_spaces.language.space import Space
from search_spaces.language.walk import closings, intersection
from search_spaces.mixture import Chances, Mixture
from search_spaces.mixture.conditions import Genes, gathered
from search_spaces.mixture.stand_ins import grouped, stands_in
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario
from search_spaces.spaces.hybrid_lm import channel_mixer, sequence_mixer
from search_spaces.spaces.laptop import laptop
from search_spaces.supernet import Supernet, Weights
from search_spaces.supernet.weights import at_bits


def doubled(supernet: Supernet, seed: int = 1) -> Weights:
    """The shared weights in float64, every one moved off its start."""
    dice = torch.Generator().manual_seed(seed)
    return {
        key: (w.detach() + 0.1 * w.detach().abs().mean() * torch.randn(w.shape, generator=dice)).double()
        for key, w in supernet.weights.items()
    }


def hybrids() -> Space:
    """All blocks, bits and routers of `hybrid_lm`, at odd widths, one place sharing its weights."""
    layer = Layer(
        sequence_mixer=sequence_mixer(),
        channel_mixer=channel_mixer(),
        bits=Bits(
            weight=one_of(16, 8, 6, 4, 3, 2, 1.58), activation=one_of(16, 8), state=one_of(16, 8), group=32
        ),
        routing=one_of(None, MixtureOfDepths(capacity=one_of(0.125, 0.5))),
    )
    shared = Layer(
        sequence_mixer=Attention(num_heads=4, head_dim=16), channel_mixer=MLP(expansion=4), shared="attention"
    )
    stack = repeat(one_of(layer, shared), depths=(1, 2, 3))
    return Space(Decoder(vocab=40, d_model=one_of(20, 36, 44), layers=stack))


def small(**layer: object) -> Space:
    """One layer of everything that is mixed, a few channels wide."""
    given: dict[str, object] = {
        "sequence_mixer": one_of(
            ShortConv(kernel=one_of(2, 3)), Attention(num_heads=2, num_kv_heads=one_of(1, 2), head_dim=4)
        ),
        "channel_mixer": one_of(None, SwiGLU(expansion=one_of(1, 2))),
        "bits": Bits(weight=one_of(16, 4, 1.58), activation=one_of(16, 8)),
    }
    stack = repeat(Layer(**(given | layer)), depths=(1, 2))  # type: ignore[arg-type]
    return Space(Decoder(vocab=11, d_model=one_of(9, 12), layers=stack))


def float8s() -> Space:
    """A layer whose 8 bits are integers or float8."""
    wide = Bits(weight=8, activation=8, numbers=one_of("int", "float"))
    return small(bits=one_of(Bits(), Bits(weight=8), wide))


@pytest.mark.parametrize(
    ("space", "count"),
    [(laptop(), 20), (hybrids(), 40), (float8s(), 20)],
    ids=["laptop", "hybrids", "float8s"],
)
def test_with_all_weight_on_one_architecture_it_is_its_subnet(space: Space, count: int) -> None:
    supernet, dice = Supernet(space), Random(3)
    mixture, weights = Mixture(supernet), doubled(supernet)
    for number in range(count):
        genotype = space.sample(dice)
        subnet = supernet.subnet(space.close(genotype))
        own = {b.name: at_bits(weights[b.key][b.index], b.bits) for b in subnet.bindings}
        tokens = torch.randint(subnet.spec.vocab, (2, 3 + 5 * (number % 7)))
        for learning in (False, True):
            losses, expected = list[Tensor](), list[Tensor]()
            with torch.set_grad_enabled(learning):
                read = mixture(
                    tokens, mixture.one_hot(genotype, torch.float64), weights=weights, losses=losses
                )
                torch.testing.assert_close(
                    read, subnet(tokens, own, losses=expected), rtol=1e-9, atol=1e-9, msg=str(subnet.spec)
                )
            zero = torch.zeros((), dtype=torch.float64)
            torch.testing.assert_close(sum(losses, zero), sum(expected, zero), rtol=1e-9, atol=1e-12)


def test_a_memo_changes_nothing() -> None:
    supernet = Supernet(small())
    mixture, memo = Mixture(supernet), dict[object, Tensor]()
    tokens, dice = torch.randint(11, (2, 7)), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(3):
            shares = mixture.shares(torch.randn(mixture.genes.size, generator=dice))
            assert torch.equal(mixture(tokens, shares, memo=memo), mixture(tokens, shares))
    assert memo


@pytest.mark.parametrize("seed", range(3))
def test_gradients_in_the_logits_match_finite_differences(seed: int) -> None:
    # no rounded activations: gradients pass straight through those, differences see the steps
    routing = one_of(None, MixtureOfDepths(capacity=0.5)) if seed == 2 else None
    space = small(bits=Bits(weight=one_of(16, 4, 1.58)), routing=routing)
    supernet, dice = Supernet(space), torch.Generator().manual_seed(seed)
    mixture, weights = Mixture(supernet), doubled(supernet, seed)
    tokens = torch.randint(11, (2, 9), generator=dice)
    logits = torch.randn(mixture.genes.size, generator=dice, dtype=torch.float64)

    def loss(at: Tensor) -> Tensor:
        losses = list[Tensor]()
        read = mixture(tokens, mixture.shares(at), weights=weights, losses=losses)
        return sum(losses, read.square().mean())

    (slope,) = torch.autograd.grad(loss(leaf := logits.clone().requires_grad_()), leaf)
    step = 1e-6
    for i in range(len(logits)):
        moved = torch.zeros_like(logits)
        moved[i] = step
        difference = (loss(logits + moved) - loss(logits - moved)) / (2 * step)
        torch.testing.assert_close(difference, slope[i], rtol=1e-6, atol=1e-9)
    assert slope.abs().min() > 0  # no gene is left out


def test_gradients_reach_every_shared_weight() -> None:
    supernet = Supernet(small())
    mixture = Mixture(supernet)
    mixture(torch.randint(11, (2, 9)), mixture.shares(mixture.logits())).square().mean().backward()
    assert all(w.grad is not None and bool(w.grad.any()) for w in supernet.parameters())


def test_a_shared_choice_is_one_gene() -> None:
    kernel = one_of(ShortConv(kernel=2), ShortConv(kernel=4), name="mixer")
    layer = Layer(sequence_mixer=kernel, bits=Bits(weight=one_of(16, 4, name="width")))
    space = Space(Decoder(vocab=11, d_model=8, layers=(layer, layer)))
    supernet = Supernet(space)
    mixture, weights = Mixture(supernet), doubled(supernet)
    assert mixture.genes.size == 4
    for genotype in space.enumerate():
        subnet = supernet.subnet(space.close(genotype))
        own = {b.name: at_bits(weights[b.key][b.index], b.bits) for b in subnet.bindings}
        tokens = torch.randint(11, (1, 6))
        read = mixture(tokens, mixture.one_hot(genotype, torch.float64), weights=weights)
        torch.testing.assert_close(read, subnet(tokens, own), rtol=1e-9, atol=1e-9)


def test_alternative_roots_stacks_and_layers() -> None:
    convolution, recurrence = (
        Layer(sequence_mixer=ShortConv(kernel=2)),
        Layer(sequence_mixer=RGLRU(num_heads=2, head_dim=4)),
    )
    wide = Decoder(
        vocab=11,
        d_model=12,
        layers=one_of((convolution, recurrence), (recurrence,), (one_of(convolution, recurrence),) * 3),
    )
    space = Space(one_of(wide, Decoder(vocab=11, d_model=8, layers=repeat(convolution, depths=(0, 2)))))
    supernet = Supernet(space)
    mixture, weights = Mixture(supernet), doubled(supernet)
    for genotype in space.enumerate():
        subnet = supernet.subnet(space.close(genotype))
        own = {b.name: at_bits(weights[b.key][b.index], b.bits) for b in subnet.bindings}
        tokens = torch.randint(11, (1, 6))
        read = mixture(tokens, mixture.one_hot(genotype, torch.float64), weights=weights)
        torch.testing.assert_close(read, subnet(tokens, own), rtol=1e-9, atol=1e-9)


@dataclass(frozen=True, kw_only=True)
class Odd(Layer):
    """A layer with a field that the mixture knows nothing of."""

    extra: int = 0


def test_what_cannot_be_relaxed_is_named() -> None:
    with pytest.raises(SpaceError, match=r"^layers\.0\.exit: an early exit cannot be relaxed"):
        Mixture(Supernet(small(exit=one_of(None, EarlyExit()))))
    layer = Layer(sequence_mixer=ShortConv(kernel=2))
    with pytest.raises(SpaceError, match=r"^vocab: "):
        Mixture(Supernet(Space(Decoder(vocab=one_of(11, 12), d_model=8, layers=(layer,)))))
    odd = Odd(sequence_mixer=ShortConv(kernel=2), extra=1)
    with pytest.raises(SpaceError, match=r"layers\.0\.extra cannot be relaxed"):
        Mixture(Supernet(Space(Decoder(vocab=11, d_model=8, layers=(odd,)))))
    heads = one_of(8, 16, name="n")
    tied = Layer(sequence_mixer=ShortConv(kernel=heads), bits=Bits(state=heads))
    with pytest.raises(SpaceError, match="gene '@n' decides two things"):
        Mixture(Supernet(Space(Decoder(vocab=11, d_model=8, layers=(tied,)))))


def test_bits_of_the_state_are_not_seen() -> None:
    assert Mixture(Supernet(laptop())).unseen == tuple(f"layers.{i}.bits.state" for i in range(4))


def test_sizes_are_carried_by_one_pass_where_zeros_suffice() -> None:
    assert stands_in((SwiGLU(expansion=3), 12), (SwiGLU(expansion=1.3), 9))
    assert stands_in((LongConv(length=64), 9), (LongConv(length=5), 9))
    heads = {"num_heads": 4, "head_dim": 8}
    assert stands_in((Attention(**heads), 16), (Attention(**heads), 7))
    # zeros imitate neither a shorter window (longer than the sequence tried) nor fewer experts
    assert not stands_in((Attention(**heads, window=99), 16), (Attention(**heads, window=97), 16))
    assert not stands_in((MoE(num_experts=8), 16), (MoE(num_experts=4), 16))
    assert not stands_in((SwiGLU(expansion=1), 9), (SwiGLU(expansion=3), 9))
    variants = [(SwiGLU(expansion=e), d) for e, d in product((1, 2, 3), (6, 9))]
    assert [sorted(group) for group in grouped(variants)] == [list(range(6))]


def enumerated(space: Space, shares: Tensor, genes: Genes) -> list[tuple[object, float]]:
    """Every architecture with its chance, the slow way."""
    everything = []
    for genotype in space.enumerate():
        chance = prod(
            shares[genes.start[path] + genes.index(genes.gene(path), label)].item()
            for path, label in genotype.genes.items()
        )
        everything.append((space.close(genotype), chance))
    return everything


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_chances_are_those_of_independent_genes(seed: int) -> None:
    space = small(bits=Bits(weight=one_of(16, 4, name="w"), state=one_of(16, 8, name="w2")))
    genes, dice = Genes(space), torch.Generator().manual_seed(seed)
    shares = genes.shares(torch.randn(genes.size, generator=dice, dtype=torch.float64))
    root, everything = space.root, enumerated(space, shares, genes)
    assert sum(chance for _, chance in everything) == pytest.approx(1.0)
    node = root.layers.options[1][1].sequence_mixer
    wanted = [
        (block, bits.weight, joined)
        for block, when in closings(node, "layers.1.sequence_mixer")
        for bits, rounded in closings(root.layers.options[1][1].bits, "layers.1.bits")
        if (joined := intersection(when, rounded, {"layers": frozenset((1,))})) is not None
    ]
    merged = gathered((((block, weight), condition) for block, weight, condition in wanted), genes.counts)
    for value, conditions in merged.items():
        chance = Chances(genes, conditions)(shares).sum().item()
        expected = sum(
            p
            for spec, p in everything
            if len(spec.layers) == 2 and (spec.layers[1].sequence_mixer, spec.layers[1].bits.weight) == value
        )
        assert chance == pytest.approx(expected, rel=1e-12)
        assert len(conditions) == 1  # the bits of the state are merged away


def skipping() -> Space:
    layer = Layer(
        sequence_mixer=one_of(ShortConv(kernel=2), Skip()), channel_mixer=one_of(None, SwiGLU(expansion=1))
    )
    return Space(Decoder(vocab=11, d_model=8, layers=(layer, layer)))


def test_a_skip_leaves_half_a_layer_out() -> None:
    spec = Decoder(vocab=11, d_model=8, layers=(Layer(sequence_mixer=Skip(), channel_mixer=SwiGLU()),))
    without = Decoder(vocab=11, d_model=8, layers=())
    model, tokens = build(spec, seed=0).double(), torch.randint(11, (2, 9))
    with torch.no_grad():
        model.get_parameter("layers.0.channel_mixer.mixer.down").zero_()
        read, state = model.prefill(tokens[:, :4])
        pieces = [read[:, -1]]
        for token in tokens[:, 4:].unbind(1):
            read, state = model.step(token, state)
            pieces.append(read)
        bare = build(without, seed=0).double()
        torch.testing.assert_close(torch.stack(pieces, 1), model(tokens)[:, 3:], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(model(tokens), bare(tokens), rtol=1e-12, atol=1e-12)
    skipped = Decoder(vocab=11, d_model=8, layers=(Layer(sequence_mixer=Skip()),)).cost(Scenario())
    assert skipped.params == without.cost(Scenario()).params + 8  # its norm
    assert (skipped.prefill_flops, skipped.decode_flops, skipped.state_bytes) == (
        (bare_cost := without.cost(Scenario())).prefill_flops,
        bare_cost.decode_flops,
        0,
    )


def test_a_skip_is_mixed_like_any_block_and_travels_as_json() -> None:
    space = skipping()
    supernet = Supernet(space)
    mixture, weights = Mixture(supernet), doubled(supernet)
    for genotype in space.enumerate():
        subnet = supernet.subnet(space.close(genotype))
        own = {b.name: at_bits(weights[b.key][b.index], b.bits) for b in subnet.bindings}
        tokens = torch.randint(11, (1, 6))
        read = mixture(tokens, mixture.one_hot(genotype, torch.float64), weights=weights)
        torch.testing.assert_close(read, subnet(tokens, own), rtol=1e-9, atol=1e-9)
    assert from_json(to_json(space.root)) == space.root
