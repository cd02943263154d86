"""What differs between the architectures of a space is told of each; what is the same in all is not."""

from __future__ import annotations

from nas.study.network_lines import network_line
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.varying import told, varying_fields
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.quantization.bits import Bits

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
