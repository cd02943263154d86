"""Sums over parts, against adding them up by hand."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import ProfileError
from hw_profiles.latency.parts import NONE_REAL, at_position, block_part, outer
from hw_profiles.latency.sums import UNTIMED_ERROR, NetworkSums
from search_spaces.blocks.attention import Attention
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from tests.hw_profiles.tiny import Scale, Sum

LAYERS = (
    Layer(sequence_mixer=Sum()),
    Layer(sequence_mixer=Sum(copies=3), channel_mixer=Scale()),
    Layer(sequence_mixer=Sum(), channel_mixer=Scale()),
    Layer(sequence_mixer=Sum(copies=2), routing=MixtureOfDepths(capacity=0.25)),
)


def ms_of(part):
    """Made up: any number and error for any part."""
    dice = Random(str(part))
    return dice.uniform(1, 5), dice.uniform(0.01, 0.5)


def totals(refused=None):
    asked = []

    def look_up(parts):
        if refused in parts:
            raise ProfileError("no entry")
        asked.extend(parts)
        return {"decode_ms": [ms_of(part) for part in parts]}

    return NetworkSums(NONE_REAL, 12, look_up), asked


def by_hand(spec):
    """Amounts by part, one layer after the other."""
    amounts, untimed = {outer(spec.vocab, spec.d_model): 1.0}, 0.0
    for layer in spec.layers:
        share = layer.routing.capacity if layer.routing else 1.0
        for block in layer.blocks.values():
            part = block_part(block, spec.d_model, 16)
            amounts[part] = amounts.get(part, 0.0) + share
            untimed += share * ms_of(part)[0] if layer.routing else 0.0
    ms = sum(much * ms_of(part)[0] for part, much in amounts.items())
    variance = sum((much * ms_of(part)[1]) ** 2 for part, much in amounts.items())
    return ms, math.sqrt(variance + (UNTIMED_ERROR * untimed) ** 2)


SPECS = st.builds(
    lambda width, layers: Decoder(vocab=16, d_model=width, layers=tuple(layers)),
    st.sampled_from([8, 16]),
    st.lists(st.sampled_from(LAYERS), max_size=5),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(SPECS, max_size=6), SPECS)
def test_many_networks_are_added_up_like_each_by_hand(specs, later):
    sums, asked = totals()
    for some in (specs, [later, *specs]):
        found = sums.of(some)
        if some:
            ms, error = found["decode_ms"]
            for i, spec in enumerate(some):
                assert (ms[i], error[i]) == pytest.approx(by_hand(spec))
    assert len(asked) == len(set(asked))


def test_the_error_of_a_part_adds_up_where_it_stands_again_and_again():
    sums, _ = totals()
    one, many = (Decoder(vocab=16, d_model=8, layers=LAYERS[:1] * count) for count in (1, 16))
    _, error = sums.of([one, many])["decode_ms"]
    around = ms_of(outer(16, 8))[1]
    alone = math.sqrt(error[0] ** 2 - around**2)
    assert math.sqrt(error[1] ** 2 - around**2) == pytest.approx(16 * alone)


def test_only_what_grows_is_moved_to_a_position():
    sums, asked = totals()
    attention = Attention(head_dim=8)
    layer = Layer(sequence_mixer=attention, channel_mixer=Scale())
    sums.of([Decoder(vocab=16, d_model=8, layers=(layer,))], position=3)
    moved = at_position(block_part(attention, 8, 16), 3)
    assert asked == [outer(16, 8), moved, block_part(Scale(), 8, 16)]


def test_a_part_that_cannot_be_looked_up_does_not_stand_in_the_way_of_others():
    sums, _ = totals(refused=block_part(Sum(copies=3), 8, 16))
    good, bad = (Decoder(vocab=16, d_model=8, layers=(layer,)) for layer in LAYERS[:2])
    before = sums.of([good])["decode_ms"]
    with pytest.raises(ProfileError, match="no entry"):
        sums.of([good, bad])
    after = sums.of([good])["decode_ms"]
    assert (before[0].tolist(), before[1].tolist()) == (after[0].tolist(), after[1].tolist())
