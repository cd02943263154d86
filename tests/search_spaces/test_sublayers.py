"""The open tree and what stands in a decoder: parts of networks are parts of the space, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import pytest

from foundation.errors import IllegalArchitecture, SpaceError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space
from search_spaces.language.walk import (
    Condition,
    alternatives,
    children,
    closed_values,
    closings,
    intersection,
    open_values,
    with_children,
)
from search_spaces.network.decoder import PLACES, Decoder, Layer
from search_spaces.network.norms.rms_norm import RMSNorm
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.network.sublayers import (
    Sublayer,
    cannot_build,
    decoders_in,
    layer_sublayers,
    sublayers_in,
    sublayers_of,
)
from search_spaces.quantization.bits import Bits


@dataclass(frozen=True, kw_only=True)
class ByThree(ShortConv):
    """A block that can be built at some widths only."""

    def check(self, d_model: int) -> None:
        if d_model % 3:
            raise IllegalArchitecture(f"{d_model} is not a multiple of 3")


def open_layer(**more: object) -> Layer:
    given: dict[str, object] = {
        "sequence_mixer": one_of(
            Attention(num_heads=2, num_kv_heads=one_of(1, 2), head_dim=8), ShortConv(kernel=one_of(2, 3))
        ),
        "channel_mixer": one_of(SwiGLU(expansion=1), None),
        "bits": Bits(weight=one_of(4, 16), state=one_of(8, 16)),
    }
    return Layer(**(given | more))  # type: ignore[arg-type]


def space_of(**more: object) -> Space:
    layers = repeat(open_layer(**more), depths=(1, 2))
    return Space(Decoder(vocab=16, d_model=one_of(16, 24), layers=layers))


SPACES = {
    "plain": space_of(),
    "halves": space_of(channel_bits=Bits(weight=one_of(8, 4), state=one_of(8, 4, name="state"))),
    "options": space_of(
        reads_embedding=one_of(False, True),
        routing=one_of(None, MixtureOfDepths(capacity=0.5)),
        shared=one_of(None, "one"),
    ),
    "stacks": Space(
        Decoder(
            vocab=16,
            d_model=one_of(16, 24, name="d"),
            layers=one_of(
                (open_layer(),), (one_of(open_layer(), Layer(sequence_mixer=RGLRU())), open_layer())
            ),
        )
    ),
    "roots": Space(
        one_of(
            Decoder(vocab=16, d_model=16, layers=(Layer(sequence_mixer=ShortConv()),)),
            Decoder(vocab=32, d_model=one_of(16, 24), layers=repeat(open_layer(), depths=(0, 2))),
        )
    ),
}


def holds(condition: Condition, genotype: Genotype, space: Space) -> bool:
    """Whether the answers of a genotype are among those that a condition allows."""
    labels = {gene.path: gene.labels for gene in space.genes}
    return all(
        path in genotype.genes and labels[path].index(genotype.genes[path]) in allowed
        for path, allowed in condition.items()
    )


@pytest.mark.parametrize("name", SPACES)
def test_the_sublayers_of_a_space_are_those_of_its_networks(name: str) -> None:
    space, dice = SPACES[name], Random(2)
    described = list(sublayers_in(space))
    assert len(set(described)) == len(described)
    for _ in range(60):
        assert set(sublayers_of(space.draw(lambda path, labels: dice.choice(labels))[1])) <= set(described)


def test_every_sublayer_of_a_space_is_counted_once() -> None:
    # 2 layers x 2 widths x (4 bits x (4 sequence mixers + 1 channel mixer) + nothing, which has no bits)
    assert len(list(sublayers_in(space_of()))) == 2 * 2 * (4 * (4 + 1) + 1)


@pytest.mark.parametrize("name", SPACES)
def test_the_condition_of_a_sublayer_holds_where_a_network_has_it_and_nowhere_else(name: str) -> None:
    space, dice = SPACES[name], Random(3)
    for _ in range(40):
        genotype, spec = space.draw(lambda path, labels: dice.choice(labels))
        expected = list(sublayers_of(spec))
        there = []
        for decoder in decoders_in(space.root):
            if not holds(decoder.condition, genotype, space):
                continue
            for layer in decoder.layers():
                for place in PLACES:
                    there += [
                        sublayer
                        for sublayer, condition in layer.sublayers(place, list(decoder.closings("d_model")))
                        if holds(condition, genotype, space)
                    ]
        assert there == expected


@pytest.mark.parametrize("name", SPACES)
def test_layers_are_there_or_the_decoder_is_shallower(name: str) -> None:
    space, dice = SPACES[name], Random(4)
    for _ in range(40):
        genotype, spec = space.draw(lambda path, labels: dice.choice(labels))
        for decoder in decoders_in(space.root):
            if not holds(decoder.condition, genotype, space):
                continue
            there = [layer.index for layer in decoder.layers() if holds(layer.condition, genotype, space)]
            assert there == list(range(len(spec.layers)))
            for index in range(3):
                missing = [c for c in decoder.shallower(index) if holds(c, genotype, space)]
                assert len(missing) == (index >= len(spec.layers))


@pytest.mark.parametrize("name", SPACES)
def test_closings_are_the_architectures_with_the_answers_that_lead_to_them(name: str) -> None:
    space, dice = SPACES[name], Random(5)
    node = next(decoders_in(space.root)).decoder
    part = Space(Decoder(vocab=16, d_model=node.d_model, layers=(open_layer(),)))
    every = list(closings(part.root))
    assert len({value for value, _ in every}) == len(every) == part.size()
    for _ in range(20):
        genotype, spec = part.draw(lambda path, labels: dice.choice(labels))
        assert [value for value, condition in every if holds(condition, genotype, part)] == [spec]


def test_uses_of_a_shared_choice_agree_in_every_closing() -> None:
    width = one_of(1, 2, name="n")
    block = Attention(num_heads=width, num_kv_heads=width, head_dim=8)
    assert [(b.num_heads, b.num_kv_heads) for b in closed_values(block)] == [(1, 1), (2, 2)]
    assert [path for path, _ in open_values(block, "x")] == ["@n", "@n"]


def test_open_values_are_the_genes() -> None:
    for space in SPACES.values():
        assert {path: c.labels for path, c in open_values(space.root)} == {
            gene.path: gene.labels for gene in space.genes
        }


def test_conditions_exclude_each_other_or_hold_together() -> None:
    first, second = {"a": frozenset((0, 1))}, {"a": frozenset((1, 2)), "b": frozenset((0,))}
    assert intersection() == {}
    assert intersection(first, second) == {"a": frozenset((1,)), "b": frozenset((0,))}
    assert intersection(first, {}, {"a": frozenset((2,))}) is None


def test_a_node_is_made_of_its_children() -> None:
    layer = Layer(sequence_mixer=ShortConv())
    for node in (layer, (layer, 3), ()):
        assert with_children(node, [part for _, part in children(node)]) == node
    assert children("text") == []
    assert [a.node for a in alternatives(layer)] == [layer]


def test_only_decoders_have_sublayers() -> None:
    with pytest.raises(SpaceError, match="needs a space of Decoder, not of ShortConv"):
        list(sublayers_in(Space(ShortConv(kernel=one_of(2, 3)))))


def test_what_cannot_be_built_says_why_and_is_left_out() -> None:
    block = ByThree()
    assert cannot_build(block, 16) == "16 is not a multiple of 3"
    assert cannot_build(block, 24) is None
    assert cannot_build(None, 16) is None
    space = Space(Decoder(vocab=16, d_model=one_of(16, 24), layers=(Layer(sequence_mixer=block),)))
    assert {sublayer.d_model for sublayer in sublayers_in(space) if sublayer.block is not None} == {24}


def test_a_sublayer_has_what_has_an_effect_on_it() -> None:
    layer = Layer(sequence_mixer=ShortConv(), bits=Bits(weight=4), reads_embedding=True, shared="one")
    first, second = layer_sublayers(layer, 16, norm=RMSNorm(), site="shared.one")
    assert first == Sublayer(
        "sequence_mixer", ShortConv(), 16, Bits(weight=4), reads_embedding=True, site="shared.one"
    )
    assert second == Sublayer("channel_mixer", None, 16, site="shared.one")
    assert first.key == "shared.one.sequence_mixer:ShortConv"
    assert list(sublayers_of(Decoder(vocab=8, d_model=16, layers=(layer,)))) == [first, second]
    swiglu = Sublayer("channel_mixer", SwiGLU(), 16, Bits(state=4))
    assert (swiglu.state_bits, Sublayer("sequence_mixer", Attention(), 16, Bits(state=4)).state_bits) == (
        16,
        4,
    )
