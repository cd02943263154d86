"""Embeddings and heads as values: weights of their own, bits, scales and caps, in every reading."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import load_file

from foundation.errors import IllegalArchitecture, SpaceError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.serialization import from_json, to_json
from search_spaces.language.space import Space
from search_spaces.mixture import Mixture
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.ends import Embedding, Head
from search_spaces.network.model import build
from search_spaces.network.model_files import WEIGHTS, load_model, save_model
from search_spaces.network.norms.layer_norm import LayerNorm
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.scaling import readout_start
from search_spaces.network.shell import EMBEDDING, HEAD
from search_spaces.quantization.bits import Bits
from search_spaces.quantization.kernels import with_real_kernels
from search_spaces.scenario import Scenario
from search_spaces.supernet import Supernet
from tests.search_spaces.networks import decoded, randomised, text

VOCAB = 13
ENDS = [
    (Embedding(), Head(tied=False)),
    (Embedding(scale=1.0, bits=Bits(weight=8)), Head(scale=0.25, softcap=2.0)),
    (Embedding(scale=12.0), Head(tied=False, softcap=3.0, bits=Bits(weight=4, group=32))),
]
EVERY_END = pytest.mark.parametrize(("embedding", "head"), ENDS)
LAYER = Layer(
    sequence_mixer=Attention(num_heads=2, num_kv_heads=1, head_dim=8), channel_mixer=SwiGLU(expansion=2)
)


def network(embedding: Embedding, head: Head) -> Decoder:
    return Decoder(vocab=VOCAB, d_model=16, layers=(LAYER, LAYER), embedding=embedding, head=head)


def open_space() -> Space:
    """Ends, widths and norms left open."""
    free = Bits(weight=one_of(16, 8))
    return Space(
        Decoder(
            vocab=VOCAB,
            d_model=one_of(8, 16),
            layers=(LAYER,),
            norm=one_of(LayerNorm(), LayerNorm(bias=False)),
            embedding=Embedding(scale=one_of(None, 3.0), bits=free),
            head=one_of(Head(softcap=one_of(None, 2.0)), Head(tied=False, scale=one_of(1.0, 0.5), bits=free)),
        )
    )


@EVERY_END
class TestEveryEnd:
    def test_prefill_and_steps_agree(self, embedding: Embedding, head: Head) -> None:
        model, tokens = build(network(embedding, head)).double().eval(), text(VOCAB, 2, 20)
        with torch.no_grad():
            torch.testing.assert_close(decoded(model, tokens, 15), model(tokens), rtol=1e-9, atol=1e-9)

    def test_logits_are_those_of_the_equation(self, embedding: Embedding, head: Head) -> None:
        model, tokens = build(replace(network(embedding, head), layers=())).double().eval(), text(VOCAB, 2, 7)
        weights = dict(model.named_parameters())
        scale = 4.0 if embedding.scale is None else embedding.scale
        x = weights[EMBEDDING][tokens] * scale
        normed = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weights["norm"]
        expected = head.scale * normed @ weights[EMBEDDING if head.tied else HEAD].T
        if head.softcap is not None:
            expected = head.softcap * torch.tanh(expected / head.softcap)
        torch.testing.assert_close(model(tokens), expected, rtol=1e-9, atol=1e-9)

    def test_the_price_is_that_of_what_is_built_and_exported(
        self, embedding: Embedding, head: Head, tmp_path: Path
    ) -> None:
        spec = network(embedding, head)
        model, cost = build(spec), spec.cost(Scenario())
        assert cost.params == sum(p.numel() for p in model.parameters()) == spec.sizes()[0]
        folder = save_model(model, tmp_path / "model")
        saved = load_file(folder / WEIGHTS)
        assert cost.weight_bytes == sum(t.numel() * t.itemsize for t in saved.values())
        assert load_model(folder).spec == spec
        assert from_json(to_json(spec)) == spec

    def test_packed_weights_compute_what_emulated_ones_do(self, embedding: Embedding, head: Head) -> None:
        model = Supernet(Space(network(embedding, head))).subnet(network(embedding, head)).extract().eval()
        with torch.no_grad():
            expected, packed = model(text(VOCAB, 2, 9)), with_real_kernels(model)(text(VOCAB, 2, 9))
        torch.testing.assert_close(packed, expected, rtol=0.05, atol=0.05)

    def test_its_parameters_begin_and_learn_like_an_embedding(self, embedding: Embedding, head: Head) -> None:
        model = build(replace(network(embedding, head), d_model=256))
        rates, roles = model.learning_rates(), model.roles()
        for name in model.shell.matrices:
            assert (roles[name], rates[name]) == (roles[EMBEDDING], rates[EMBEDDING])
            assert float(getattr(model, name).detach().std()) == pytest.approx(256**-0.5, rel=0.05)
        assert float(model.get_parameter("norm").detach().mean()) == pytest.approx(readout_start(256))


def test_a_slice_is_its_copy_and_a_mixture_on_one_network_is_that_network() -> None:
    space = open_space()
    supernet = randomised(space)
    mixture, tokens = Mixture(supernet), text(VOCAB, 2, 9)
    assert not mixture.unseen
    kinds = set()
    for seed in range(12):
        genotype = space.sample(Random(seed))
        subnet = supernet.subnet(space.close(genotype))
        subnet.module.eval()
        kinds.add(subnet.spec.head.tied)
        with torch.no_grad():
            alone, mixed = subnet(tokens), mixture(tokens, mixture.one_hot(genotype))
            assert torch.equal(alone, subnet.extract().eval()(tokens))
            torch.testing.assert_close(mixed, alone, rtol=1e-4, atol=1e-4)
    assert kinds == {True, False}


def test_a_mixture_of_ends_is_differentiable_in_their_shares() -> None:
    mixture = Mixture(randomised(open_space()))
    logits = mixture.logits().requires_grad_()
    mixture(text(VOCAB, 2, 9), mixture.shares(logits)).square().mean().backward()
    assert logits.grad is not None
    for gene in mixture.space.genes:
        assert logits.grad[mixture.genes.slice(gene)].abs().min() > 0, gene.path


def test_an_exit_speaks_as_the_head_does() -> None:
    layer = replace(LAYER, exit=EarlyExit(threshold=1.0))
    spec = replace(network(Embedding(), Head(tied=False, softcap=0.01)), layers=(layer,))
    model = build(spec).eval()
    assert spec.cost(Scenario()).params == sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        assert float(model(text(VOCAB, 2, 9)).abs().max()) <= 0.01


@pytest.mark.parametrize(
    ("embedding", "head", "message"),
    [
        (Embedding(scale=0), Head(), "Embedding: scale must be positive, got 0"),
        (Embedding(bits=Bits(weight=5)), Head(), "known widths are"),
        (Embedding(bits=Bits(activation=8)), Head(), "activation and state stay at 16"),
        (Embedding(), Head(softcap=-1.0), "Head: softcap must be positive, got -1.0"),
        (Embedding(), Head(tied=1), "tied must be true or false, got 1"),  # type: ignore[arg-type]
        (Embedding(), Head(bits=Bits(weight=8)), r"a tied head is stored as the embedding is"),
        (Head(), Head(), r"embedding must be a value such as Embedding\(\), got Head"),
    ],
)
def test_wrong_values_are_refused(embedding: Embedding, head: Head, message: str) -> None:
    with pytest.raises(IllegalArchitecture, match=message):
        network(embedding, head).check()


def test_a_choice_of_heads_with_a_shared_name_cannot_be_mixed() -> None:
    spec = network(Embedding(), Head(softcap=one_of(None, 2.0, name="cap")))
    with pytest.raises(SpaceError, match=r"^head: a choice of heads with a shared name"):
        Mixture(Supernet(Space(spec)))


def test_only_what_is_unusual_is_shown() -> None:
    assert "head=" not in str(network(Embedding(), Head()))
    assert "head=Head(tied=False)" in str(network(Embedding(), Head(tied=False)))
