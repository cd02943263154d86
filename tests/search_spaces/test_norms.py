"""The contract of norms, for every registered one, in whole networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from foundation.errors import IllegalArchitecture, SpaceError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.serialization import from_json, to_json
from search_spaces.language.space import Space
from search_spaces.mixture import Mixture
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.network.model_files import WEIGHTS, load_model, save_model
from search_spaces.network.norms.base import Norm, norm_axes, norms
from search_spaces.network.norms.layer_norm import LayerNorm
from search_spaces.network.norms.rms_norm import RMSNorm
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.network.shell import Shell
from search_spaces.parameter_axes import WIDTH
from search_spaces.quantization.bits import Bits
from search_spaces.quantization.kernels import with_real_kernels
from search_spaces.scenario import Scenario
from search_spaces.supernet import Supernet

NORMS = [*(norms[name]() for name in norms), LayerNorm(bias=False, place="both", residual_scale=0.5)]
EVERY_NORM = pytest.mark.parametrize("norm", NORMS, ids=str)
ATTENTION = Attention(num_heads=2, num_kv_heads=1, head_dim=8)


def network(norm: Norm, *, bits: Bits | None = None) -> Decoder:
    """A network with every place that a norm stands at."""
    bits = bits or Bits()
    layers = (
        Layer(sequence_mixer=ATTENTION, channel_mixer=SwiGLU(expansion=2), bits=bits, reads_embedding=True),
        Layer(sequence_mixer=ShortConv(kernel=3), bits=bits, routing=MixtureOfDepths(capacity=0.5)),
        Layer(sequence_mixer=ATTENTION, bits=bits, exit=EarlyExit(threshold=0.9)),
    )
    return Decoder(vocab=13, d_model=16, layers=layers, norm=norm)


def open_space(norm: object) -> Space:
    layer = Layer(
        sequence_mixer=one_of(ATTENTION, ShortConv(kernel=one_of(2, 3))),
        channel_mixer=one_of(None, SwiGLU(expansion=one_of(1, 2))),
        bits=Bits(weight=one_of(16, 8)),
        routing=one_of(None, MixtureOfDepths(capacity=0.5)),
    )
    return Space(Decoder(vocab=13, d_model=one_of(8, 16), layers=(layer,) * 2, norm=norm))  # type: ignore[arg-type]


def text(batch: int, count: int) -> Tensor:
    return torch.randint(13, (batch, count), generator=torch.Generator().manual_seed(0))


def randomised(space: Space) -> Supernet:
    supernet = Supernet(space)
    with torch.no_grad():
        for i, weight in enumerate(supernet.parameters()):
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(i)), alpha=0.2)
    return supernet


@EVERY_NORM
class TestEveryNorm:
    def test_it_normalizes_the_last_axes(self, norm: Norm) -> None:
        x = torch.randn(3, 5, 64, generator=torch.Generator().manual_seed(0)).double() * 7
        torch.testing.assert_close(
            norm.apply(x, (64,)).square().mean(-1), torch.ones(3, 5).double(), rtol=1e-5, atol=1e-5
        )
        both = norm.apply(x, (5, 64))
        torch.testing.assert_close(both.square().mean((-1, -2)), torch.ones(3).double(), rtol=1e-5, atol=1e-5)

    def test_vectors_at_their_start_change_nothing(self, norm: Norm) -> None:
        x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
        vectors = [torch.full((8,), start) for start in norm.held.values()]
        torch.testing.assert_close(norm.apply(x, (8,), vectors), norm.apply(x, (8,)))

    def test_it_has_gradients(self, norm: Norm) -> None:
        dice = torch.Generator().manual_seed(0)
        inputs = [
            torch.randn(shape, generator=dice, dtype=torch.float64)
            for shape in ((3, 4), *[(4,)] * len(norm.held))
        ]
        for tensor in inputs:
            tensor.requires_grad_()
        assert torch.autograd.gradcheck(lambda x, *vectors: norm.apply(x, (4,), vectors), inputs)

    def test_every_vector_has_a_name_of_its_own_and_an_axis(self, norm: Norm) -> None:
        names = {*norm.held, *norm.sublayer_vectors}
        assert all(name.startswith("norm") for name in names)
        assert {name: norm_axes()[name] for name in names} == dict.fromkeys(names, WIDTH)
        shell = Shell(13, 16, norm)
        assert Shell.layout().sizes(shell.shapes) == {WIDTH: 16}

    def test_a_wrong_epsilon_is_refused(self, norm: Norm) -> None:
        with pytest.raises(IllegalArchitecture, match="epsilon"):
            network(replace(norm, epsilon=0.0)).check()

    def test_prefill_and_steps_agree(self, norm: Norm) -> None:
        model, tokens = build(network(norm)).double().eval(), text(2, 20)
        with torch.no_grad():
            whole = model(tokens)
            logits, state = model.prefill(tokens[:, :19])
            last, _ = model.step(tokens[:, 19], state)
        torch.testing.assert_close(torch.cat((logits, last[:, None]), dim=1), whole, rtol=1e-9, atol=1e-9)

    def test_the_price_is_that_of_what_is_built_and_exported(self, norm: Norm, tmp_path: Path) -> None:
        spec = network(norm, bits=Bits(weight=8))
        model, cost = build(spec), spec.cost(Scenario())
        assert cost.params == sum(p.numel() for p in model.parameters())
        folder = save_model(model, tmp_path / "model")
        saved = load_file(folder / WEIGHTS)
        assert cost.weight_bytes == sum(t.numel() * t.itemsize for t in saved.values())
        loaded = load_model(folder)
        assert loaded.spec == spec
        assert to_json(from_json(to_json(spec))) == to_json(spec)

    def test_packed_weights_compute_what_emulated_ones_do(self, norm: Norm) -> None:
        spec = network(norm, bits=Bits(weight=8))
        spec = replace(spec, layers=(spec.layers[0], spec.layers[2]))
        model = Supernet(Space(spec)).subnet(spec).extract().eval()
        with torch.no_grad():
            expected, packed = model(text(2, 9)), with_real_kernels(model)(text(2, 9))
        torch.testing.assert_close(packed, expected, rtol=0.05, atol=0.05)

    def test_a_slice_is_its_copy(self, norm: Norm) -> None:
        space = open_space(norm)
        supernet = randomised(space)
        with torch.no_grad():
            for seed in range(8):
                subnet = supernet.subnet(space.close(space.sample(Random(seed))))
                subnet.module.eval()
                assert torch.equal(subnet(text(2, 9)), subnet.extract().eval()(text(2, 9)))

    def test_a_mixture_with_all_weight_on_one_network_is_that_network(self, norm: Norm) -> None:
        assert_mixture_is_subnet(open_space(norm))


def assert_mixture_is_subnet(space: Space) -> None:
    supernet = randomised(space)
    mixture = Mixture(supernet)
    for seed in range(8):
        genotype = space.sample(Random(seed))
        mixed = mixture(text(2, 9), mixture.one_hot(genotype))
        alone = supernet.subnet(space.close(genotype))(text(2, 9))
        torch.testing.assert_close(mixed, alone, rtol=1e-4, atol=1e-4)


def test_a_norm_behind_the_mixer_is_one_of_what_the_mixer_puts_out() -> None:
    rule = RMSNorm(place="after", residual_scale=0.25)
    layer = Layer(sequence_mixer=ATTENTION, channel_mixer=SwiGLU(expansion=2))
    model = build(Decoder(vocab=13, d_model=16, layers=(layer,), norm=rule), seed=1).double().eval()
    sublayer = model.decoder_layers[0].sublayers["channel_mixer"]
    assert {name for name, _ in sublayer.named_parameters(recurse=False)} == {"norm_after"}
    x = torch.randn(2, 5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        added = sublayer.mixer(x).y
        expected = x + 0.25 * added / (added.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        torch.testing.assert_close(sublayer(x).y, expected, rtol=1e-9, atol=1e-9)


def test_norms_at_every_place_share_one_set_of_weights() -> None:
    layer = Layer(
        sequence_mixer=one_of(ATTENTION, ShortConv(kernel=3)), channel_mixer=SwiGLU(expansion=one_of(1, 2))
    )
    norm = RMSNorm(place=one_of("before", "after", "both"), residual_scale=one_of(1.0, 0.5))
    space = Space(Decoder(vocab=13, d_model=one_of(8, 16), layers=(layer, layer), norm=norm))
    supernet = randomised(space)
    names = {key.rpartition(".")[2] for key in supernet.weights if "mixer:" in key and ".mixer." not in key}
    assert names == {"norm", "norm_after"}
    with torch.no_grad():
        for seed in range(8):
            subnet = supernet.subnet(space.close(space.sample(Random(seed))))
            subnet.module.eval()
            copy = subnet.extract().eval()
            assert torch.equal(subnet(text(2, 9)), copy(text(2, 9)))
            assert subnet.spec.cost(Scenario()).params == sum(p.numel() for p in copy.parameters())
    assert_mixture_is_subnet(space)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"place": "beside"}, "place must be one of before, after, both, got 'beside'"),
        ({"residual_scale": 0}, "residual_scale must be positive, got 0"),
        ({"bias": 1}, "bias must be true or false, got 1"),
    ],
)
def test_wrong_values_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(IllegalArchitecture, match=message):
        network(replace(LayerNorm(), **wrong)).check()  # type: ignore[arg-type]


def test_a_layer_that_reads_the_embedding_needs_a_norm_before_its_mixer() -> None:
    with pytest.raises(IllegalArchitecture, match="reads_embedding needs a norm in front of the mixer"):
        network(RMSNorm(place="after")).check()


def test_a_network_without_a_norm_has_the_default() -> None:
    spec = Decoder(d_model=16, layers=(Layer(sequence_mixer=ATTENTION),))
    assert spec.norm == RMSNorm()
    assert spec == replace(spec, norm=RMSNorm(epsilon=1e-6))
    assert "norm" not in str(spec)
    assert "norm=RMSNorm(epsilon=0.001)" in str(replace(spec, norm=RMSNorm(epsilon=1e-3)))


def test_what_is_no_norm_is_refused() -> None:
    with pytest.raises(IllegalArchitecture, match="norm must be a norm"):
        Decoder(d_model=16, layers=(), norm=ATTENTION).check()  # type: ignore[arg-type]


def test_a_choice_of_norms_is_read_as_slices_and_mixed() -> None:
    space = open_space(one_of(*NORMS) if len(NORMS) > 1 else RMSNorm(epsilon=one_of(1e-6, 1e-2)))
    supernet = randomised(space)
    with torch.no_grad():
        for seed in range(8):
            subnet = supernet.subnet(space.close(space.sample(Random(seed))))
            subnet.module.eval()
            assert torch.equal(subnet(text(2, 9)), subnet.extract().eval()(text(2, 9)))
    assert_mixture_is_subnet(space)


def test_a_mixture_of_norms_is_differentiable_in_their_shares() -> None:
    space = open_space(RMSNorm(epsilon=one_of(1e-6, 0.5)))
    mixture = Mixture(randomised(space))
    logits = mixture.logits().requires_grad_()
    mixture(text(2, 9), mixture.shares(logits)).square().mean().backward()
    gene = next(gene for gene in space.genes if gene.path == "norm.epsilon")
    assert logits.grad is not None
    assert logits.grad[mixture.genes.slice(gene)].abs().min() > 0


def test_a_choice_of_norms_with_a_shared_name_cannot_be_mixed() -> None:
    space = open_space(RMSNorm(epsilon=one_of(1e-6, 1e-3, name="epsilon")))
    with pytest.raises(SpaceError, match=r"^norm: a choice of norms with a shared name"):
        Mixture(Supernet(space))
