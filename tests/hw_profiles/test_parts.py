from random import Random

import pytest

from hw_profiles.measure import READINGS
from hw_profiles.parts import Part, half, outer, part_tasks, parts_in, parts_of
from search_spaces.choices import one_of, repeat
from search_spaces.decoder import Decoder, Layer
from search_spaces.errors import ProfileError
from search_spaces.space import Space
from tests.hw_profiles.tiny import SCENARIO, Scale, Sum, registered, small_space


def test_every_part_of_a_space_once():
    assert set(parts_in(small_space())) == {
        outer(16, 8),
        half(Scale(), 8, 16),
        *(half(Sum(copies=copies), 8, bits) for copies in (1, 3) for bits in (16, 8)),
    }
    assert len(parts_in(small_space())) == 6


def test_the_parts_of_any_network_are_parts_of_the_space():
    space, dice = small_space(), Random(0)
    known = set(parts_in(space))
    for _ in range(50):
        _, spec = space.propose_with_spec(lambda path, labels: dice.choice(labels))
        assert set(parts_of(spec)) <= known
        assert len(parts_of(spec)) == 1 + sum(len(layer.blocks) for layer in spec.layers)


def test_the_bits_of_no_state_do_not_matter():
    assert half(Scale(), 8, 8) == half(Scale(), 8, 16)
    assert half(Sum(), 8, 8) != half(Sum(), 8, 16)


def test_blocks_that_cannot_be_built_are_left_out():
    layer = Layer(sequence_mixer=Sum(copies=one_of(1, 9)))
    space = Space(Decoder(d_model=one_of(4, 8), vocab=one_of(16, 32), layers=repeat(layer, (1, 2))))
    blocks = [part for part in parts_in(space) if part.block]
    assert {part.block for part in blocks} == {Sum(copies=1)}
    assert len(parts_in(space)) - len(blocks) == 4  # vocabularies by widths


def test_alternatives_of_whole_layers_are_found():
    one, other = Layer(sequence_mixer=Sum()), Layer(sequence_mixer=Sum(), channel_mixer=Scale())
    space = Space(Decoder(vocab=16, d_model=8, layers=(one_of(one, other), one)))
    assert {part.block for part in parts_in(space)} == {None, Sum(), Scale()}


def test_only_decoders_have_parts():
    with pytest.raises(ProfileError, match="not of Sum"):
        parts_in(Space(Sum(copies=one_of(1, 2))))


def test_parts_survive_json():
    with registered():
        for part in parts_in(small_space()):
            assert Part.from_plain(part.to_plain()) == part


def test_a_part_says_what_it_is():
    assert str(half(Sum(copies=3), 8, 8)) == "Sum(copies=3) at d_model 8 with a 8-bit state"
    assert str(outer(16, 8)) == "embedding and logits of 16 tokens at d_model 8"


@pytest.mark.parametrize("part", parts_in(small_space()), ids=str)
def test_every_part_runs(part):
    tasks = part_tasks(part, SCENARIO)
    assert tuple(tasks) == READINGS
    for task in tasks.values():
        task.call()
        task.call()
