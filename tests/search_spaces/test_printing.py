"""Configurations as text: a space as a tree, a part in one line, a network as its layer strip."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block, blocks
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.printing import brief, show
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer, strip
from search_spaces.network.norms.layer_norm import LayerNorm
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.quantization.bits import Bits
from tests.search_spaces.random_spaces import enumerated, spaces


@dataclass(frozen=True)
class Pair:
    """A part with a field that must be given, a plain default and a made one."""

    first: Any
    second: int = 2
    third: tuple[int, ...] = field(default_factory=lambda: (3,))


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (5, "5"),
        (None, "None"),
        ("word", "word"),
        ((1, "a", None), "(1, a, None)"),
        (Pair(None), "Pair(first=None)"),
        (Pair(1, 2, (3,)), "Pair(first=1)"),
        (Pair(1, 7), "Pair(first=1, second=7)"),
        (Pair(1, third=()), "Pair(first=1, third=())"),
        (Pair(Pair(1)), "Pair(first=Pair(first=1))"),
        (Pair(one_of(1, 2)), "Pair(first=1 | 2)"),
        (one_of(Pair(1), None), "Pair(first=1) | None"),
        (ShortConv(), "ShortConv"),
        (SwiGLU(expansion=0.5), "SwiGLU(expansion=0.5)"),
        (Bits(weight=4, group=32), "Bits(weight=4, group=32)"),
    ],
)
def test_a_part_is_one_line_without_its_defaults(node: object, text: str) -> None:
    assert brief(node) == text


@pytest.mark.parametrize("kind", blocks.values(), ids=lambda kind: kind.__name__)
def test_every_block_is_printed_by_its_name_and_what_was_set(kind: type[Block]) -> None:
    for example in kind.examples():
        text = brief(example)
        assert text.startswith(kind.__name__)
        assert "\n" not in text
        if example == kind():
            assert text == kind.__name__


@pytest.mark.parametrize(
    ("node", "lines"),
    [
        (one_of(1, 2), ["one of 1, 2"]),
        (one_of(1, 2, name="n"), ["one of 1, 2 (shared as 'n')"]),
        (
            Pair(one_of(1, 2), third=()),
            ["Pair", "  first: one of 1, 2", "  second: 2", "  third: 0 in a row"],
        ),
        (
            one_of(ShortConv(), None),
            ["one of", "  ShortConv", "  None"],
        ),
        (
            one_of(Pair(one_of(3, 4), third=()), None),
            [
                "one of",
                "  Pair",
                "    first: one of 3, 4",
                "    second: 2",
                "    third: 0 in a row",
                "  None",
            ],
        ),
        (repeat(ShortConv(), (1, 3)), ["a stack of 1, 3 times", "  ShortConv"]),
        (
            repeat(ShortConv(), (0, 2), name="depth"),
            ["a stack of 0, 2 times (shared as 'depth')", "  ShortConv"],
        ),
        (
            (ShortConv(), ShortConv(), SwiGLU()),
            ["3 in a row", "  0-1: ShortConv", "  2: SwiGLU"],
        ),
    ],
)
def test_a_tree_is_indented_and_equal_neighbours_are_one_line(node: object, lines: list[str]) -> None:
    assert show(node).splitlines() == lines
    assert show(node, indent=1).splitlines() == [f"  {line}" for line in lines]


CONV = Layer(sequence_mixer=ShortConv())


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (CONV, "ShortConv"),
        (Layer(sequence_mixer=ShortConv(), channel_mixer=SwiGLU()), "ShortConv + SwiGLU"),
        (
            Layer(sequence_mixer=Attention(num_kv_heads=2), channel_mixer=SwiGLU(expansion=1)),
            f"{brief(Attention(num_kv_heads=2))} + SwiGLU(expansion=1)",
        ),
        (Layer(sequence_mixer=ShortConv(), shared="a"), "ShortConv  weights shared as 'a'"),
        (Layer(sequence_mixer=ShortConv(), reads_embedding=True), "ShortConv  reads the embedding"),
        (
            Layer(sequence_mixer=ShortConv(), routing=MixtureOfDepths(capacity=0.5), exit=EarlyExit()),
            "ShortConv  MixtureOfDepths(capacity=0.5)  EarlyExit",
        ),
        (Layer(sequence_mixer=ShortConv(), bits=Bits(weight=4)), f"ShortConv  {Bits(weight=4)}"),
    ],
)
def test_a_layer_is_one_line(layer: Layer, text: str) -> None:
    assert strip(layer) == text


def test_an_open_layer_is_one_line_too() -> None:
    line = strip(Layer(sequence_mixer=ShortConv(kernel=one_of(2, 3))))
    assert "kernel: one of 2, 3" in line
    assert "\n" not in line


def test_a_network_has_its_sizes_and_runs_of_equal_layers() -> None:
    wide = Layer(sequence_mixer=ShortConv(), channel_mixer=SwiGLU())
    spec = Decoder(vocab=7, d_model=8, layers=(CONV, CONV, wide))
    assert str(spec).splitlines() == [
        "Decoder(vocab=7, d_model=8), 3 layers",
        "    0-1  ShortConv",
        "      2  ShortConv + SwiGLU",
    ]
    other = Decoder(vocab=7, d_model=8, layers=(), norm=LayerNorm())
    assert str(other) == "Decoder(vocab=7, d_model=8, norm=LayerNorm), 0 layers"


@settings(max_examples=20, deadline=None)
@given(spaces(60))
def test_different_networks_have_different_strips(space: Space) -> None:
    specs = [spec for _, spec in enumerated(space)]
    strips = {str(spec) for spec in specs}
    assert len(strips) == len(set(specs))
    for spec in specs[:5]:
        assert str(spec).splitlines()[0].endswith(f"{len(spec.layers)} layers")


def test_a_large_space_has_a_short_size_and_its_constraints() -> None:
    def shallow(spec: Decoder) -> bool:
        return len(spec.layers) < 30

    layer = Layer(sequence_mixer=ShortConv(kernel=one_of(2, 3, 4, 5)))
    space = Space(
        Decoder(vocab=7, d_model=8, layers=repeat(layer, (1, 40))), constraints=[shallow], name="large"
    )
    lines = str(space).splitlines()
    assert lines[0] == f"large: 1.21e+24 architectures, 41 genes, digest {space.digest}"
    assert lines[-1] == "constraint: shallow"
