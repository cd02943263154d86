"""The bits of a layer: what is legal, how it is named and counted."""

from __future__ import annotations

from typing import Any

import pytest

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.attention import Attention
from search_spaces.language.choices import one_of
from search_spaces.language.serialization import from_json, to_json, to_plain
from search_spaces.network.decoder import Layer, strip
from search_spaces.quantization.bits import TERNARY, Bits, WeightFormat, is_matrix, weight_bytes


@pytest.mark.parametrize("numbers", ["int", "float", one_of("int", "float")], ids=str)
def test_bits_survive_json(numbers: Any) -> None:
    bits = Bits(weight=8, numbers=numbers)
    assert from_json(to_json(bits)) == bits
    assert to_plain(Bits(weight=8))["numbers"] == "int"


@pytest.mark.parametrize(
    "bits",
    [
        Bits(numbers="float"),
        Bits(numbers="float", weight=4, activation=8),
        Bits(numbers="float", weight=8, group=128),
    ],
    ids=str,
)
def test_float8_is_legal_where_something_has_8_bits(bits: Bits) -> None:
    with pytest.raises(IllegalArchitecture, match="float8 is for weights or activations of 8 bits"):
        bits.check()
    Bits(numbers="float", weight=8).check()
    Bits(numbers="float", activation=8).check()
    with pytest.raises(IllegalArchitecture, match="known numbers are"):
        Bits(numbers="posit").check()
    assert str(Bits(weight=8, activation=8, numbers="float")) == "w8/a8/s16 bits, products in float8"
    assert Bits(numbers="float", activation=8).stored == WeightFormat()


def test_vectors_and_short_kernels_stay_whole() -> None:
    assert not is_matrix((64,))
    assert not is_matrix((64, 4))
    assert weight_bytes((64, 4), WeightFormat(4)) == 1024


@pytest.mark.parametrize(
    "bits",
    [
        Bits(weight=5),
        Bits(weight=1.5),
        Bits(activation=4),
        Bits(state=2),
        Bits(weight="8"),  # type: ignore[arg-type]
        Bits(group=48),
        Bits(group=0),
    ],
    ids=str,
)
def test_unknown_widths_are_illegal(bits: Bits) -> None:
    with pytest.raises(IllegalArchitecture, match="known widths"):
        bits.check()


def test_bits_are_named_where_they_are_unusual() -> None:
    assert str(Bits(weight=4, state=8)) == "w4/s8 bits"
    assert str(Bits(weight=TERNARY, activation=8, group=128)) == "w1.58/a8/s16 bits in groups of 128"
    layer = Layer(sequence_mixer=Attention(), bits=Bits(weight=3))
    assert strip(layer).endswith("  w3/s16 bits")
    assert from_json(to_json(layer)) == layer
