"""Spaces around a network: the file that is written is Python, and its space holds the network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from foundation.errors import SettingError
from search_spaces import alternatives, around_a_network
from search_spaces.alternatives import Alternatives
from search_spaces.around_a_network import source_of_space
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.quantization.bits import Bits
from search_spaces.zoo import zoo

LAYER = Layer(sequence_mixer=Attention(num_heads=2, num_kv_heads=1, head_dim=8), channel_mixer=SwiGLU())
SPEC = Decoder(d_model=16, layers=(LAYER, LAYER, replace(LAYER, channel_mixer=None)))


def text_of(spec: Decoder, **wanted: Any) -> str:
    return source_of_space(
        spec, Alternatives.from_plain(wanted), name="a 'name'", about="it", defaults={"trials": 3}
    )


def made(text: str) -> Space:
    names: dict[str, Any] = {}
    exec(text, names)  # a file that this very project wrote
    space = names["space"]
    assert isinstance(space, Space)
    return space


@pytest.mark.parametrize("name", sorted(zoo))
def test_the_space_around_every_architecture_holds_it(name: str) -> None:
    spec = zoo[name].spec
    if any(layer.bits.weight != 16 for layer in spec.layers):
        with pytest.raises(SettingError, match="layers of few bits"):
            text_of(spec)
        return
    space = made(text_of(spec))
    assert space.close(space.genotype_of(spec)) == spec


def test_every_layer_chooses_for_itself() -> None:
    space = made(text_of(SPEC, bits=[8, 4]))
    assert space.size() == (3 * 3) ** 2 * 3, "the channel mixer has bits of its own"
    assert space.name == "a 'name'"
    assert space.defaults == {"trials": 3}
    assert text_of(SPEC).count("= Layer(") == 2, "equal layers are written once"


def test_parts_have_alternatives_where_they_are_asked_for() -> None:
    space = made(text_of(SPEC, bits=[0], windows=[4, 8], skip=True))
    assert space.size() == (4 * 2) ** 2 * 4
    windowed = replace(
        SPEC,
        layers=(replace(LAYER, sequence_mixer=Attention(num_heads=2, num_kv_heads=1, head_dim=8, window=8)),)
        * 2
        + SPEC.layers[2:],
    )
    assert space.contains(windowed)
    around = made(text_of(windowed, bits=[0], windows=[4, 8]))
    assert around.size() == 2**2 * 3, "a window that is no smaller is no alternative"


def test_what_is_named_twice_is_one_option() -> None:
    wide = replace(SPEC, d_model=32)  # 96 hidden channels
    space = made(text_of(wide, bits=[4, 4], windows=[8, 8], mixers=["mamba2", "mamba2"]))
    assert space.size() == (3 * 2 * 2) ** 2 * 3 * 2
    shares = made(text_of(wide, bits=[0], narrower=[0.5, 0.5001, 0.999, 1e-9]))
    assert space.contains(wide)
    assert shares.size() == 3**2, "half and the least, and none that rounds to all channels"
    least = replace(wide.layers[0], channel_mixer=SwiGLU(expansion=0.25))
    assert shares.contains(replace(wide, layers=(least, least, *wide.layers[2:])))
    assert made(text_of(SPEC, bits=[0], narrower=[1e-9])).contains(
        replace(SPEC, layers=(replace(LAYER, channel_mixer=SwiGLU(expansion=0.5)), *SPEC.layers[1:]))
    ), "a matrix of few bits has 8 inputs"


@pytest.mark.parametrize("own", [64, 128])
def test_bits_have_the_group_that_was_asked_for_and_the_network_its_own(own: int) -> None:
    layer = replace(LAYER, bits=Bits(group=own))
    spec = replace(SPEC, layers=(layer,))
    space = made(text_of(spec, bits=[8, 4], group=128))
    assert space.size() == 3 * 3
    assert space.contains(spec)
    few = Bits(weight=4, group=128)
    assert space.contains(replace(spec, layers=(replace(layer, bits=few),)))
    assert space.contains(replace(spec, layers=(replace(layer, channel_bits=few),)))


def test_smaller_forms_are_those_that_weights_can_be_made_of() -> None:
    grouped = Attention(num_heads=8, num_kv_heads=4, head_dim=8)
    spec = replace(SPEC, layers=(replace(LAYER, sequence_mixer=grouped),))
    space = made(text_of(spec, bits=[0], kv_heads=[1, 2], narrower=[0.5, 0.75]))
    assert space.size() == 3 * 3
    for heads in (3, 4, 8):
        with pytest.raises(SettingError, match=f"kv_heads: {heads} cannot .* has 4; fewer .*: 1, 2$"):
            text_of(spec, kv_heads=[heads])
    half = replace(spec.layers[0], channel_mixer=SwiGLU(expansion=1.5))
    assert space.contains(replace(spec, layers=(half,)))
    biased = replace(grouped, biases="all")
    mixed = made(text_of(spec, bits=[0], mixers=["mamba2", "linear_attention", "gated_delta_net"]))
    assert mixed.size() == 4
    with pytest.raises(SettingError, match="has 4; none is fewer"):
        text_of(replace(spec, layers=(replace(LAYER, sequence_mixer=biased),)), kv_heads=[1])
    with pytest.raises(SettingError, match="has no attention"):
        text_of(zoo["mamba"].spec, kv_heads=[1])


def test_a_network_of_few_bits_is_no_parent() -> None:
    with pytest.raises(SettingError, match="take the network that they were rounded from"):
        text_of(replace(SPEC, layers=(replace(LAYER, bits=Bits(weight=4)),)))


def test_every_mixer_that_is_named_is_made() -> None:
    assert tuple(around_a_network.MIXERS) == alternatives.MIXERS
