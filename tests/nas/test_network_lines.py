"""What differs between the architectures of a space is told of each; what is the same in all is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

import pytest

from nas.study.network_lines import layer_line, network_line
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.varying import differing_fields, joined, told, varying_fields
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.quantization.bits import Bits
from search_spaces.spaces import spaces

WIDE, NARROW = SwiGLU(expansion=4), SwiGLU(expansion=2)


def test_open_fields_vary_and_so_do_those_that_options_differ_in() -> None:
    attention = Attention(num_heads=4, num_kv_heads=one_of(1, 2))
    layer = Layer(sequence_mixer=attention, channel_mixer=one_of(WIDE, NARROW), bits=Bits(weight=4))
    varying = varying_fields(Decoder(d_model=one_of(32, 64), layers=repeat(layer, depths=(1, 2))))
    assert varying["Attention"] == {"num_kv_heads"}
    assert varying["SwiGLU"] == {"expansion"}
    assert "Bits" not in varying
    assert told(Attention(num_heads=4, num_kv_heads=2), varying) == "Attention(num_kv_heads=2)"


def test_layers_that_are_different_in_every_network_do_not_vary() -> None:
    layers = tuple(Layer(sequence_mixer=Attention(), channel_mixer=mixer) for mixer in (WIDE, NARROW))
    assert not varying_fields(Decoder(d_model=32, layers=layers))


def test_a_network_in_a_line() -> None:
    bits = Bits(weight=one_of(4, 16))
    space = Decoder(d_model=32, layers=repeat(Layer(sequence_mixer=Attention(), bits=bits), depths=(1, 3)))
    layer = Layer(sequence_mixer=Attention(), bits=Bits(weight=4))
    spec = Decoder(d_model=32, layers=(layer, layer, Layer(sequence_mixer=Attention())))
    assert network_line(spec, varying_fields(space)) == (
        "d32: 2 \N{MULTIPLICATION SIGN} Attention w4, Attention w16"
    )
    assert network_line(3) == "3"


@pytest.mark.parametrize("name", ["hybrid_lm", "laptop"])
def test_lines_of_two_networks_of_a_space_differ(name: str) -> None:
    """Whatever a space leaves open: networks that differ in one answer have different lines."""
    space, dice = spaces[name](), Random(2)
    varying, seen = varying_fields(space.root), dict[str, str]()
    for _ in range(40):
        genotype, spec = space.draw(lambda path, labels: dice.choice(list(labels)))
        changed = dice.choice(sorted(genotype.genes))
        other, near = space.draw(partial(answer_except, genotype.genes, changed, dice))
        for drawn, network in ((genotype, spec), (other, near)):
            assert seen.setdefault(network_line(network, varying), drawn.digest) == drawn.digest


def answer_except(
    genes: Mapping[str, Any], changed: str, dice: Random, path: str, labels: Iterable[Any]
) -> Any:
    """The answers of a genotype, but another one at one place."""
    allowed = list(labels)
    if path != changed and path in genes and genes[path] in allowed:
        return genes[path]
    return dice.choice([label for label in allowed if path not in genes or label != genes[path]] or allowed)


def test_what_layers_of_one_network_differ_in_is_told_of_it() -> None:
    plain = Layer(sequence_mixer=Attention(), channel_mixer=WIDE)
    layers = (plain, replace(plain, channel_mixer=NARROW), replace(plain, parallel=True))
    varying = differing_fields(layers)
    lines = [layer_line(layer, varying, "+") for layer in layers]
    assert lines == [
        "Attention+SwiGLU(expansion=4)",
        "Attention+SwiGLU(expansion=2)",
        "Attention+SwiGLU(expansion=4) [halves side by side]",
    ]
    assert joined(varying, {"Bits": frozenset({"state"})})["Bits"] == {"state"}
