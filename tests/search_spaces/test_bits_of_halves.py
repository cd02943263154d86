"""Bits of the channel mixer of their own: everything that bits decide is decided for each half of a layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import IllegalArchitecture, SpaceError
from nas.modifiers.quantize import Quantize
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.rwkv_channel_mix import RWKVChannelMix
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.decoder import PLACES, Decoder, Layer
from search_spaces.network.model import build
from search_spaces.network.model_files import load_model, save_model
from search_spaces.network.sublayers import sublayers_of
from search_spaces.network.weight_formats import weight_bits
from search_spaces.quantization.bits import STATE_BITS, WEIGHT_BITS, Bits
from search_spaces.scenario import Scenario
from tests.search_spaces.networks import decoded, randomised, text

MIXER = Attention(num_heads=2, num_kv_heads=1, head_dim=8)
bits = st.builds(Bits, weight=st.sampled_from(WEIGHT_BITS), state=st.sampled_from(STATE_BITS))


def network(own: Bits, channel: Bits | None, channel_mixer: Any = SwiGLU(expansion=2)) -> Decoder:  # noqa: B008
    layer = Layer(sequence_mixer=MIXER, channel_mixer=channel_mixer, bits=own, channel_bits=channel)
    return Decoder(vocab=23, d_model=16, layers=(layer, layer))


def open_space(**more: Any) -> Space:
    layer = Layer(sequence_mixer=MIXER, channel_mixer=SwiGLU(expansion=2), **more)
    return Space(Decoder(vocab=23, d_model=16, layers=(layer, layer)))


HALVES = open_space(bits=Bits(weight=one_of(16, 4)), channel_bits=Bits(weight=one_of(16, 4)))


def stored(spec: Decoder) -> tuple[int, int]:
    cost = spec.cost(Scenario(prompt=40))
    return cost.weight_bytes, cost.state_bytes


@given(bits, bits)
def test_what_is_stored_is_each_half_at_its_own_bits(own: Bits, channel: Bits) -> None:
    mixing = RWKVChannelMix()  # a channel mixer with a state
    both = [stored(network(own, other, mixing)) for other in (own, channel)]
    alike = [stored(network(channel, other, mixing)) for other in (own, channel)]
    assert both[0] == stored(network(own, None, mixing))
    for kind in range(2):
        assert both[0][kind] + alike[1][kind] == both[1][kind] + alike[0][kind]
    for sublayer in sublayers_of(network(own, channel)):
        assert sublayer.bits == (own if sublayer.place == PLACES[0] else channel)


def test_a_file_holds_each_half_at_its_own_bits(tmp_path: Path) -> None:
    spec = network(Bits(weight=4, state=8), Bits(weight=8))
    model = build(spec, seed=1)
    formats = weight_bits(model)
    assert {format.bits for name, format in formats.items() if format and ".sequence_mixer." in name} == {4}
    assert {format.bits for name, format in formats.items() if format and ".channel_mixer." in name} == {8}
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert again.spec == spec
    taken = sum(file.stat().st_size for file in (tmp_path / "model").glob("*.safetensors"))
    assert taken == pytest.approx(stored(spec)[0], abs=8_000), "names and shapes stand there too"
    tokens = text(23, 2, 24)
    assert torch.equal(decoded(again, tokens, 16).argmax(-1), again(tokens, segment=1).argmax(-1))


def test_a_subnet_computes_what_its_copy_does() -> None:
    supernet, tokens, dice = randomised(HALVES), text(23, 2, 16), Random(1)
    outputs = set()
    for _ in range(6):
        subnet = supernet.subnet(HALVES.close(HALVES.sample(dice)))
        assert torch.equal(subnet(tokens), subnet.extract()(tokens))
        outputs.add((subnet.spec, float(subnet(tokens).detach().sum())))
    assert len({value for _, value in outputs}) == len({spec for spec, _ in outputs}), "bits are computed"


def test_a_network_is_found_however_it_is_written() -> None:
    assert HALVES.size() == 4**2
    alike = network(Bits(weight=4), None)
    genotype = HALVES.genotype_of(alike)
    assert HALVES.genotype_of(network(Bits(weight=4), Bits(weight=4))) == genotype
    assert HALVES.close(genotype).layers[0].bits_at("channel_mixer") == Bits(weight=4)
    as_one = open_space(bits=Bits(weight=one_of(16, 4)))
    assert as_one.contains(network(Bits(weight=4), Bits(weight=4)))
    assert not as_one.contains(network(Bits(weight=4), Bits(weight=16)))
    for genotype in HALVES.enumerate():
        assert HALVES.genotype_of(HALVES.close(genotype)) == genotype


def test_networks_of_one_name_have_one_form() -> None:
    with pytest.raises(SpaceError, match="None beside other options means some networks twice"):
        open_space(channel_bits=one_of(None, Bits(weight=4)))
    with pytest.raises(IllegalArchitecture, match="known widths"):
        network(Bits(), Bits(weight=5)).check()


def test_bits_are_shown_where_they_differ() -> None:
    assert "w4/s16 bits, channel mixer w8/s16 bits" in str(network(Bits(weight=4), Bits(weight=8)))
    assert "channel mixer" not in str(network(Bits(weight=4), Bits(weight=4)))


def test_quantizing_keeps_the_states_of_both_halves() -> None:
    before = network(Bits(state=8), Bits(state=4), RWKVChannelMix())
    layer = Quantize(bits=4).changed(before).layers[0]
    assert layer.bits == Bits(weight=4, state=8)
    assert layer.channel_bits == Bits(weight=4, state=4)
    assert Quantize(bits=4).changed(network(Bits(), None)).layers[0].channel_bits is None
    assert replace(layer, channel_bits=layer.bits).bits_at("channel_mixer") == layer.bits
