"""What a supernet holds: no more than its networks need, filled alike, and the gradients of many of them."""

from __future__ import annotations

from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import IllegalArchitecture, SpaceError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import OneOf, one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.network.norms.layer_norm import LayerNorm
from search_spaces.network.norms.rms_norm import RMSNorm
from search_spaces.network.shell import EMBEDDING
from search_spaces.supernet import SharedWeights, Supernet
from search_spaces.supernet.supernet import KEPT_SUBNETS
from search_spaces.supernet.weights import ALIGNED, leading
from tests.search_spaces.networks import randomised, text
from tests.search_spaces.random_spaces import VOCAB, enumerated, spaces

QUICK = settings(max_examples=15, deadline=None)


@QUICK
@given(spaces(60))
def test_no_weight_is_larger_than_the_networks_need(space: Space) -> None:
    supernet, needed = Supernet(space), dict[str, tuple[int, ...]]()
    specs = [spec for _, spec in enumerated(space)]
    legal = [spec for spec in specs if space.objection(spec) is None]
    for spec in legal:
        for binding in supernet.subnet(spec).bindings:
            shape = tuple(part.stop for part in binding.index)
            needed[binding.key] = tuple(map(max, shape, needed.get(binding.key, shape)))
    held = {key: tuple(weight.shape) for key, weight in supernet.weights.items()}
    assert needed.keys() <= held.keys()
    if len(legal) == len(specs) and not isinstance(space.root, OneOf):
        assert needed == held


@QUICK
@given(spaces(60), st.integers(0, 99))
@torch.no_grad()
def test_a_slice_is_its_copy_in_any_space(space: Space, seed: int) -> None:
    supernet, dice = randomised(space), Random(seed)
    for count in (1, 8):
        spec = space.close(space.sample(dice))
        subnet, tokens = supernet.subnet(spec), text(VOCAB, 2, count, seed)
        subnet.module.eval()
        assert torch.equal(subnet(tokens), subnet.extract().eval()(tokens)), str(spec)


@QUICK
@given(spaces(60), st.integers(0, 99))
def test_a_supernet_repeats_with_its_seed(space: Space, seed: int) -> None:
    first, second, third = (Supernet(space, seed=s) for s in (seed, seed, seed + 1))
    assert all(torch.equal(weight, second.weights[key]) for key, weight in first.weights.items())
    assert not torch.equal(first.weights[EMBEDDING], third.weights[EMBEDDING])
    assert all(weight.isfinite().all() for weight in first.parameters())


def open_space() -> Space:
    layer = Layer(
        sequence_mixer=one_of(Attention(num_heads=2, num_kv_heads=one_of(1, 2), head_dim=4), ShortConv()),
        channel_mixer=SwiGLU(expansion=one_of(1, 2)),
    )
    return Space(Decoder(vocab=VOCAB, d_model=one_of(8, 12), layers=repeat(layer, (1, 2))), name="open")


def test_the_largest_network_starts_as_if_it_were_built_alone() -> None:
    space = open_space()
    mixer = Attention(num_heads=2, num_kv_heads=2, head_dim=4)
    layer = Layer(sequence_mixer=mixer, channel_mixer=SwiGLU(expansion=2))
    spec = Decoder(vocab=VOCAB, d_model=12, layers=(layer, layer))
    alone, slices = build(spec, seed=3), Supernet(space, seed=3).subnet(spec).extract()
    supernet = Supernet(space, seed=3)
    for binding in supernet.subnet(spec).bindings:
        expected = alone.get_parameter(binding.name)
        assert torch.equal(supernet.weights[binding.key], expected), binding.name
    assert slices.spec == spec


def test_norms_of_one_name_are_held_once() -> None:
    norm = one_of(RMSNorm(), LayerNorm())
    spec = Decoder(vocab=VOCAB, d_model=8, layers=(Layer(sequence_mixer=ShortConv()),), norm=norm)
    supernet = Supernet(Space(spec))
    assert [key for key in supernet.weights if "norm" in key] == [
        "norm",
        "norm_bias",
        "layers.0.sequence_mixer:ShortConv.norm",
        "layers.0.sequence_mixer:ShortConv.norm_bias",
    ]
    assert supernet.weights["norm"].eq(1).all()
    assert supernet.weights["norm_bias"].eq(0).all()


def test_gradients_of_several_networks_add_up_whatever_their_order() -> None:
    space = open_space()
    specs = [space.close(space.sample(Random(seed))) for seed in range(4)]
    sums = []
    for order in (specs, specs[::-1]):
        supernet = Supernet(space)
        supernet.zero_grad()
        for spec in order:
            subnet = supernet.subnet(spec)
            leaves = subnet.leaves()
            subnet(text(VOCAB, 2, 6), subnet.rounded(leaves)).logsumexp(-1).mean().backward()
            supernet.accumulate(subnet, leaves)
        sums.append({key: w.grad for key, w in supernet.weights.items() if w.grad is not None})
    assert sums[0].keys() == sums[1].keys()
    for key, grad in sums[0].items():
        torch.testing.assert_close(grad, sums[1][key], msg=key)


def test_recomputed_layers_have_the_same_gradients() -> None:
    supernet, space = Supernet(open_space()), open_space()
    subnet = supernet.subnet(space.close(space.sample(Random(1))))
    gradients = []
    for recompute in (False, True):
        leaves = subnet.leaves()
        subnet(text(VOCAB, 2, 9), subnet.rounded(leaves), recompute=recompute).square().mean().backward()
        gradients.append({name: leaf.grad for name, leaf in leaves.items()})
    for name, grad in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], grad, msg=name)
    assert all("forward" not in layer.__dict__ for layer in subnet.module.decoder_layers)


def test_a_module_has_no_values_outside_of_a_call() -> None:
    space = open_space()
    subnet = Supernet(space).subnet(space.close(space.sample(Random(2))))
    with pytest.raises(RuntimeError), torch.no_grad():
        subnet(text(VOCAB, 1, 3), {name: w[:0] for name, w in subnet.weights().items()})
    assert {parameter.device.type for parameter in subnet.module.parameters()} == {"meta"}


def test_subnets_are_kept_and_the_oldest_is_dropped() -> None:
    widths = tuple(range(1, KEPT_SUBNETS + 2))
    root = Decoder(vocab=3, d_model=one_of(*widths), layers=())
    supernet = Supernet(Space(root))
    specs = [Decoder(vocab=3, d_model=width, layers=()) for width in widths]
    first = supernet.subnet(specs[0])
    assert supernet.subnet(specs[0]) is first
    for spec in specs[1:]:
        supernet.subnet(spec)
    assert supernet.subnet(specs[0]) is not first


def test_shared_weights_are_added_with_their_rates() -> None:
    shared = SharedWeights("mine", torch.device("cpu"))
    shared.add("a", torch.ones(2, 3), 0.1)
    shared.add("b", torch.zeros(ALIGNED), 0.2)
    assert [tuple(p.shape) for p in shared.parameters()] == [(2, 3), (ALIGNED,)]
    assert shared.rates == {"a": 0.1, "b": 0.2}
    sixteen = shared.at_sixteen()
    assert {key: tuple(value.shape) for key, value in sixteen.items()} == {"a": (2, 3), "b": (ALIGNED,)}
    assert sixteen["b"].storage_offset() == ALIGNED


def test_a_leading_slice_has_its_shape() -> None:
    values = torch.arange(24).view(2, 3, 4)
    assert values[leading((1, 2, 4))].tolist() == [[[0, 1, 2, 3], [4, 5, 6, 7]]]
    assert values[leading(())].shape == (2, 3, 4)


def test_a_network_that_is_too_large_is_refused_with_both_shapes() -> None:
    space = open_space()
    supernet = Supernet(space)
    wide = Layer(sequence_mixer=ShortConv(), channel_mixer=SwiGLU(expansion=4))
    with pytest.raises(IllegalArchitecture) as error:
        supernet.subnet(Decoder(vocab=VOCAB, d_model=8, layers=(wide,)))
    name = "layers.0.channel_mixer.mixer.gated"
    assert str(error.value) == (
        f"{name} needs (32, 8), but the supernet of open has only (24, 12)"
        " at layers.0.channel_mixer:SwiGLU.mixer.gated"
    )


def test_a_block_that_fits_no_width_is_named_with_its_place() -> None:
    uneven = Attention(num_heads=3, num_kv_heads=2, head_dim=4)
    with pytest.raises(SpaceError) as error:
        Supernet(Space(Decoder(vocab=VOCAB, d_model=8, layers=(Layer(sequence_mixer=uneven),))))
    assert str(error.value) == ("layers.0.sequence_mixer:Attention: no variant of this block can be built")


def test_only_a_layer_that_chooses_its_norm_place_holds_norms_on_both_sides() -> None:
    free = Layer(sequence_mixer=Attention(num_heads=2, num_kv_heads=1, head_dim=4), norm_place="after")
    fixed = Layer(sequence_mixer=ShortConv(kernel=4))
    stacks = one_of((free,), (fixed, free))
    held = Supernet(Space(Decoder(vocab=VOCAB, d_model=12, layers=stacks), name="stacks")).weights.keys()
    norms = {key for key in held if key.startswith("layers.") and ".norm" in key}
    assert norms == {
        "layers.0.sequence_mixer:Attention.norm_after",
        "layers.0.sequence_mixer:ShortConv.norm",
        "layers.1.sequence_mixer:Attention.norm_after",
    }
