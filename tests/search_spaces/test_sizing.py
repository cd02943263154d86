"""Architectures at the sizes of a space: proportions, limits, and the size beside a member of a front."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import SpaceError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.quantization.bits import Bits
from search_spaces.sizing import at_sizes_of, matched, weight_bytes, with_bits
from search_spaces.spaces import spaces
from search_spaces.zoo import zoo

LAYER = Layer(
    sequence_mixer=one_of(
        Attention(num_heads=8, num_kv_heads=one_of(1, 2), head_dim=64, window=one_of(256, 512)),
        Mamba2(num_heads=8, head_dim=64, state_dim=one_of(64, 128)),
    ),
    channel_mixer=SwiGLU(expansion=one_of(2, 3)),
    bits=Bits(weight=one_of(4, 8, 16)),
)
WIDE = Space(Decoder(d_model=one_of(256, 512, 768), layers=repeat(LAYER, (6, 12))), name="wide")
LAPTOP = spaces["laptop"]()
FOUND = {name: at_sizes_of(WIDE, point.spec) for name, point in zoo.items()}


@pytest.mark.parametrize("name", sorted(zoo))
def test_every_published_architecture_has_every_size_of_a_large_space(name: str) -> None:
    sizes = FOUND[name]
    assert {size.d_model for size in sizes} == set(range(256, 769, 64))
    assert len(sizes) == 18
    assert [weight_bytes(size) for size in sizes] == sorted(map(weight_bytes, sizes))
    build(sizes[0], device="meta")


def mixer(name: str, width: int) -> object:
    return next(size for size in FOUND[name] if size.d_model == width).layers[0].sequence_mixer


def test_heads_become_wider_up_to_64_and_then_more_and_sizes_keep_the_limits_of_the_space() -> None:
    assert mixer("transformer", 256) == Attention(num_heads=4, num_kv_heads=2, head_dim=64)
    assert mixer("transformer", 768) == Attention(num_heads=12, num_kv_heads=2, head_dim=64)
    assert mixer("mistral", 512) == Attention(num_heads=8, num_kv_heads=2, head_dim=64, window=256)
    assert mixer("mamba2", 256) == Mamba2(num_heads=8, head_dim=64, state_dim=128)


def test_layers_of_one_sublayer_count_half_and_a_shorter_stack_keeps_every_kind() -> None:
    depths = {name: sorted({len(size.layers) for size in FOUND[name]}) for name in ("mamba2", "transformer")}
    assert depths == {"mamba2": [12, 24], "transformer": [6, 12]}
    for size in at_sizes_of(LAPTOP, zoo["lfm2"].spec):
        kinds = {type(layer.sequence_mixer) for layer in size.layers}
        assert kinds == {Attention, ShortConv}, size


def test_an_architecture_that_fits_at_no_size_says_why() -> None:
    one = Space(Decoder(d_model=64, layers=(LAYER,)), name="one")
    with pytest.raises(SpaceError, match=r"no size within .* of one: 1 layers are too few for its"):
        at_sizes_of(one, zoo["jamba"].spec)
    with pytest.raises(SpaceError, match="only spaces of Decoder have sizes"):
        at_sizes_of(Space(LAYER), zoo["lfm2"].spec)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["transformer", "mamba2", "lfm2"]))
def test_what_stands_beside_a_member_is_no_smaller_unless_it_is_the_largest(seed: int, name: str) -> None:
    member, sizes = LAPTOP.close(LAPTOP.sample(Random(seed))), at_sizes_of(LAPTOP, zoo[name].spec)
    chosen = matched(sizes, member)
    bits = {layer.bits for layer in chosen.layers}
    assert len(bits) == 1
    assert bits <= {layer.bits for layer in member.layers}
    alike = [weight_bytes(with_bits(size, *bits)) for size in sizes]
    enough = [each for each in alike if each >= weight_bytes(member)]
    assert weight_bytes(chosen) == (min(enough) if enough else max(alike))


def test_bits_that_belong_to_the_architecture_stay() -> None:
    member = LAPTOP.close(LAPTOP.sample(Random(0)))
    ternary = zoo["bitnet"].spec
    assert matched([ternary], member) == ternary
    eight = replace(member, layers=tuple(replace(layer, bits=Bits(weight=8)) for layer in member.layers))
    assert {layer.bits.weight for layer in matched(FOUND["lfm2"], eight).layers} == {8}
