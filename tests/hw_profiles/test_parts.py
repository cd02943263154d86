import json
from dataclasses import replace
from random import Random

import pytest

from foundation.errors import ProfileError
from hw_profiles.latency.features import features
from hw_profiles.latency.parts import (
    COPIES,
    Part,
    at_position,
    block_part,
    outer,
    part_calls,
    part_samples,
    parts_in,
    parts_of,
    shares,
    stack_of,
    timed_bits,
)
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.options.adaptive_precision import AdaptivePrecision
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.quantization.bits import Bits
from tests.hw_profiles.tiny import SCENARIO, Scale, Sum, registered, small_space


def test_every_part_of_a_space_once():
    assert set(parts_in(small_space())) == {
        outer(16, 8),
        block_part(Scale(), 8, 16),
        *(block_part(Sum(copies=copies), 8, bits) for copies in (1, 3) for bits in (16, 8)),
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
    assert block_part(Scale(), 8, 8) == block_part(Scale(), 8, 16)
    assert block_part(Sum(), 8, 8) != block_part(Sum(), 8, 16)


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
    assert str(block_part(Sum(copies=3), 8, 8)) == "Sum(copies=3) at d_model 8 with a 8-bit state"
    assert str(outer(16, 8)) == "embedding and logits of 16 tokens at d_model 8"


@pytest.mark.parametrize("part", parts_in(small_space()), ids=str)
def test_every_part_runs_in_models_of_1_and_more_copies(part):
    calls = part_calls(part, SCENARIO)
    copies = COPIES if part.block else (0,)
    assert list(calls) == [f"{n}/{reading}" for n in copies for reading in ("prefill_ms", "decode_ms")]
    for call in calls.values():
        call.call()
        call.call()


def test_copies_have_weights_of_their_own():
    part = block_part(Sum(copies=3), 8, 8)
    models = [stack_of(part, n, SCENARIO) for n in COPIES]
    halves = [sum(p.numel() for p in model.parameters()) for model in models]
    assert halves[1] - halves[0] == 2 * (3 * 8 * 8 + 8)
    assert models[1].decoder_layers[2].sublayers["sequence_mixer"].codec.bits == 8


def test_a_half_and_its_overhead_fall_apart():
    timed = {
        "1/prefill_ms": [5.0, 6.0, 5.5],
        "3/prefill_ms": [9.0, 10.0, 9.5],
        "1/decode_ms": [1.0],
        "3/decode_ms": [1.5],
    }
    own, around = part_samples(timed)
    assert own == {"prefill_ms": [2.0, 2.0, 2.0], "decode_ms": [0.25]}
    assert around == {"prefill_ms": 3.5, "decode_ms": 0.75}
    assert part_samples({"0/prefill_ms": [7.0], "0/decode_ms": [1.0]}) == (
        {"prefill_ms": [7.0], "decode_ms": [1.0]},
        {},
    )


def test_a_part_at_a_position_only_decodes_there():
    part = at_position(block_part(Attention(head_dim=8), 8, 16), 3)
    calls = part_calls(part, SCENARIO)
    assert list(calls) == ["1/decode_ms", "3/decode_ms"]
    for call in calls.values():
        call.call()
    assert "decoding at 3" in str(part)
    with registered():
        assert Part.from_plain(part.to_plain()) == part


def test_which_parts_grow():
    assert block_part(Attention(head_dim=8), 8, 16).grows(12)
    assert block_part(Attention(head_dim=8, window=4), 8, 16).grows(12)
    assert not block_part(Sum(), 8, 16).grows(12)
    assert not outer(16, 8).grows(12)


def test_bits_without_a_kernel_run_as_16():
    real = frozenset({(8, 16, "int"), (8, 8, "int"), (4, 16, "int"), (8, 8, "float")})
    others = [(4, 8, "int"), (2, 8, "int"), (16, 8, "int"), (8, 16, "float")]
    for weight, activation, numbers in [*real, *others]:
        bits = Bits(weight=weight, activation=activation, numbers=numbers)
        own = (weight, activation, numbers)
        assert timed_bits(bits, real) == (own if own in real else (16, 16, "int"))
        assert timed_bits(bits, frozenset()) == (16, 16, "int")
    layer = Layer(sequence_mixer=Sum(), bits=Bits(weight=one_of(16, 8, 2)))
    space = Space(Decoder(vocab=16, d_model=8, layers=(layer,)))
    assert len(parts_in(space)) == 2
    assert {part.weight_bits for part in parts_in(space, real)} == {16, 8}


def test_float8_is_a_part_of_its_own():
    parts = [block_part(Sum(), 8, 16, (8, 8, numbers)) for numbers in ("int", "float")]
    assert parts[0] != parts[1]
    assert str(parts[1]).endswith("8-bit weights and 8-bit activations (float8)")
    with registered():
        assert [Part.from_plain(json.loads(json.dumps(part.to_plain()))) for part in parts] == parts
    bits = Bits(weight=8, activation=8, numbers=one_of("int", "float"))
    space = Space(Decoder(vocab=16, d_model=8, layers=(Layer(sequence_mixer=Sum(), bits=bits),)))
    real = frozenset(part.factors for part in parts)
    assert {part.numbers for part in parts_in(space, real) if part.block} == {"int", "float"}
    assert stack_of(parts[1], 2, SCENARIO).spec.layers[0].bits.numbers == "float"


def test_what_reads_the_embedding_is_a_part_of_its_own():
    plain = Layer(sequence_mixer=Sum(), channel_mixer=Scale())
    reading = replace(plain, reads_embedding=True)
    parts = parts_of(Decoder(vocab=16, d_model=8, layers=(plain, reading)))
    own = block_part(Sum(), 8, 16, reads_embedding=True)
    assert parts == (
        outer(16, 8),
        block_part(Sum(), 8, 16),
        block_part(Scale(), 8, 16),
        own,
        block_part(Scale(), 8, 16),
    )
    assert "reading the embedding" in str(own)
    with registered():
        assert Part.from_plain(own.to_plain()) == own
    either = Layer(sequence_mixer=Sum(), reads_embedding=one_of(False, True))
    assert {own, block_part(Sum(), 8, 16)} <= set(
        parts_in(Space(Decoder(vocab=16, d_model=8, layers=(either,))))
    )
    extra = [sum(p.numel() for p in stack_of(part, 1, SCENARIO).parameters()) for part in (own, parts[1])]
    assert extra[0] - extra[1] == 2 * 8 * 8 + 8
    one, other = (features(part, SCENARIO, "prefill_ms") for part in (own, parts[1]))
    assert (one[1] - other[1], one[2] - other[2]) == (4 * 8 * 8 * 8, 2 * (2 * 8 * 8 + 8))
    for call in part_calls(own, SCENARIO).values():
        call.call()


def test_layers_that_some_tokens_pass_are_reckoned():
    layer = Layer(sequence_mixer=Sum(), routing=MixtureOfDepths(capacity=0.25), exit=EarlyExit())
    spec = Decoder(vocab=16, d_model=8, layers=(layer,))
    assert shares(layer, spec) == ((block_part(Sum(), 8, 16), 0.25), (outer(16, 8), 1.0))
    twice = Layer(
        sequence_mixer=Sum(),
        channel_mixer=SwiGLU(expansion=1),
        bits=Bits(weight=8),
        precision=AdaptivePrecision(),
    )
    assert [much for _, much in shares(twice, replace(spec, layers=(twice,)))] == [1.0, 2.0]
