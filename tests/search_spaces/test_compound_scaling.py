"""Families hold their cost, by any law and any cost, and grow in the axes that the law names."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from foundation.errors import SettingError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.compound_scaling import (
    TOLERANCE,
    WIDER,
    Law,
    closest,
    deeper,
    grown,
    laws_of,
    member,
)
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.scenario import Scenario
from search_spaces.spaces import spaces

GATED = Layer(
    sequence_mixer=GatedLinearAttention(num_heads=2, head_dim=16, state_dim=8),
    channel_mixer=SwiGLU(expansion=2),
)
WINDOW = Layer(
    sequence_mixer=Attention(num_heads=2, num_kv_heads=1, head_dim=16, window=32),
    channel_mixer=SwiGLU(expansion=2),
)
NETWORK = Decoder(vocab=64, d_model=32, layers=(GATED, WINDOW))


def flops(network: Decoder) -> float:
    return float(network.cost(Scenario(prompt=128)).prefill_flops)


@pytest.mark.parametrize("name", ["params", "prefill_flops", "decode_flops", "weight_bytes"])
def test_every_member_holds_its_cost(name: str) -> None:
    space = spaces["laptop"]()
    for seed in range(3):
        network = space.close(space.sample(Random(seed)))

        def cost(spec: Decoder) -> float:
            return float(getattr(spec.cost(Scenario()), name))

        for law in laws_of(network, cost):
            for factor in (2, 4, 8):
                ratio = cost(member(network, law, factor, cost)) / cost(network)
                assert abs(ratio / factor - 1) <= TOLERANCE


def test_members_can_be_built_and_have_the_parameters_that_they_cost() -> None:
    for law in laws_of(NETWORK, flops):
        network = member(NETWORK, law, 2, flops)
        assert sum(p.numel() for p in build(network, seed=0).parameters()) == network.cost(Scenario()).params


def test_depth_grows_by_stacking_or_by_stretching() -> None:
    assert grown(NETWORK, layers=4).layers == (GATED, WINDOW, GATED, WINDOW)
    assert grown(NETWORK, layers=4, stretched=True).layers == (GATED, GATED, WINDOW, WINDOW)
    assert grown(NETWORK, layers=3, stretched=True).layers == (GATED, GATED, WINDOW)


def test_states_grow_where_there_are_some() -> None:
    first, second = (layer.sequence_mixer for layer in grown(NETWORK, state=2.0).layers)
    assert first == replace(GATED.sequence_mixer, state_dim=16)
    assert second == replace(WINDOW.sequence_mixer, window=64)
    open_window = replace(
        NETWORK, layers=(replace(WINDOW, sequence_mixer=Attention(num_heads=2, head_dim=16)),)
    )
    assert grown(open_window, state=2.0) == open_window
    assert all(law.state == 1 for law in laws_of(open_window, flops))


def test_the_exponents_are_those_of_the_cost() -> None:
    # a cost that is depth x width^2, as in the paper: one doubling of width is sqrt 2
    def area(network: Decoder) -> float:
        return float(len(network.layers) * network.d_model**2)

    laws = laws_of(replace(NETWORK, d_model=256), area, parts=1)
    assert sorted({law.width for law in laws}) == pytest.approx([1.0, 2**0.5])
    assert sorted({law.depth for law in laws}) == pytest.approx([1.0, 2.0])


def test_naive_growth_is_in_one_axis() -> None:
    wide, deep = closest(NETWORK, WIDER, 4, flops), deeper(NETWORK, 4, flops)
    assert len(wide.layers) == 2
    assert wide.d_model > 32
    assert deep.d_model == 32
    assert len(deep.layers) > 4
    assert abs(flops(deep) / flops(NETWORK) / 4 - 1) < TOLERANCE


def test_what_cannot_hold_its_cost_is_refused() -> None:
    with pytest.raises(SettingError, match="does not grow"):
        laws_of(NETWORK, lambda network: 1.0)
    with pytest.raises(SettingError, match="more than nothing"):
        laws_of(NETWORK, lambda network: 0.0)
    with pytest.raises(SettingError, match="nearest to 3 times"):
        member(NETWORK, Law(1.0, 1.5, 1.0), 3, lambda network: 1.0 + 9.0 * (network.d_model > 40))
