"""Small spaces of decoders, drawn at random: shared choices, options, norms, stacks and roots."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gelu_mlp import MLP
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space
from search_spaces.language.walk import Condition
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.ends import Head
from search_spaces.network.norms.layer_norm import LayerNorm
from search_spaces.network.norms.rms_norm import RMSNorm
from search_spaces.network.options.adaptive_precision import AdaptivePrecision
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.quantization.bits import Bits

VOCAB = 11

OPTIONS: dict[str, list[Any]] = {
    "shared": [None, None, one_of(None, "weights")],
    "routing": [None, None, MixtureOfDepths(capacity=0.5), one_of(None, MixtureOfDepths(capacity=0.5))],
    "exit": [None, None, None, one_of(None, EarlyExit(threshold=0.9))],
    "reads_embedding": [False, False, True, one_of(False, True)],
    "parallel": [False, True, one_of(False, True)],
    "norm_place": [None, "after", one_of(None, "both")],
    "precision": [None, None, None, one_of(None, AdaptivePrecision(low=2))],
}
"""Values of the options of a layer; absent ones more often, so that spaces stay small."""


def _attention(num_kv_heads: Any) -> Attention:
    return Attention(num_heads=2, num_kv_heads=num_kv_heads, head_dim=4)


attentions = st.sampled_from([1, one_of(1, 2), one_of(1, 2, name="heads")]).map(_attention)
convolutions = st.sampled_from([2, one_of(2, 3), one_of(2, 3, name="kernel")]).map(
    lambda kernel: ShortConv(kernel=kernel)
)
sequence_mixers = st.one_of(
    attentions, convolutions, st.tuples(attentions, convolutions).map(lambda pair: one_of(*pair))
)
channel_mixers: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        SwiGLU(expansion=one_of(1, 1.5)),
        one_of(None, SwiGLU(expansion=1)),
        one_of(MLP(expansion=1), SwiGLU(expansion=1), name="channels"),
    ]
)
bits: st.SearchStrategy[Any] = st.sampled_from(
    [
        Bits(),
        Bits(weight=one_of(4, 16)),
        Bits(state=one_of(8, 16, name="state")),
        one_of(Bits(), Bits(weight=4, activation=8)),
    ]
)
channel_bits: st.SearchStrategy[Any] = st.sampled_from([None, None, Bits(weight=one_of(4, 16))])
norms: st.SearchStrategy[Any] = st.sampled_from(
    [
        RMSNorm(),
        LayerNorm(bias=one_of(True, False)),
        one_of(RMSNorm(), LayerNorm()),
        RMSNorm(epsilon=one_of(1e-6, 1e-3)),
        RMSNorm(place=one_of("before", "both"), residual_scale=0.5),
    ]
)
heads: st.SearchStrategy[Any] = st.sampled_from(
    [Head(), Head(tied=False, bits=Bits(weight=one_of(16, 8))), one_of(Head(softcap=2.0), Head(tied=False))]
)
widths: st.SearchStrategy[Any] = st.sampled_from([12, one_of(9, 12), one_of(8, 12, name="width")])


@st.composite
def open_layers(draw: st.DrawFn) -> Layer:
    """A layer with at most one option that is not at its default."""
    name = draw(st.sampled_from(sorted(OPTIONS)))
    return Layer(
        sequence_mixer=draw(sequence_mixers),
        channel_mixer=draw(channel_mixers),
        bits=draw(bits),
        channel_bits=draw(channel_bits),
        **{name: draw(st.sampled_from(OPTIONS[name]))},
    )


@st.composite
def stacks(draw: st.DrawFn, name: str) -> Any:
    """Layers in a row, repeated layers (by a shared choice of this name), or stacks to choose from."""
    form = draw(st.sampled_from(["row", "repeat", "empty or not", "alternatives"]))
    layer = draw(open_layers())
    if form == "row":
        return (layer,)
    if form == "repeat":
        return repeat(layer, depths=(1, 2))
    if form == "empty or not":
        return repeat(layer, depths=(0, 1), name=name)
    fixed = Layer(sequence_mixer=ShortConv(kernel=4))
    return one_of((layer,), (fixed, layer))


@st.composite
def decoders(draw: st.DrawFn, vocab: int = VOCAB) -> Decoder:
    """An open decoder."""
    layers = draw(stacks(f"depth_{vocab}"))
    return Decoder(vocab=vocab, d_model=draw(widths), layers=layers, norm=draw(norms), head=draw(heads))


@st.composite
def _spaces(draw: st.DrawFn, most: int) -> Space:
    decoder = draw(decoders())
    root = one_of(decoder, draw(decoders(VOCAB + 2))) if draw(st.integers(0, 4)) == 4 else decoder
    space = Space(root, name="random")
    # small enough to be enumerated; a filter would discard most draws
    if space.size() > most:
        layer = Layer(sequence_mixer=draw(sequence_mixers))
        space = Space(Decoder(vocab=VOCAB, d_model=draw(widths), layers=(layer,)), name="random")
    return space


def spaces(most: int = 150) -> st.SearchStrategy[Space]:
    """Spaces of at most so many architectures, not all of them legal."""
    return _spaces(most)


def enumerated(space: Space) -> Iterator[tuple[Genotype, Decoder]]:
    """Every genotype of a space with its architecture, legal or not."""
    for genotype in space.enumerate():
        yield space.draw(lambda path, labels, genes=genotype.genes: genes[path])  # type: ignore[misc]


def holds(condition: Condition, genotype: Genotype, space: Space) -> bool:
    """Whether the answers of a genotype are among those that a condition allows."""
    labels = {gene.path: gene.labels for gene in space.genes}
    return all(
        path in genotype.genes and labels[path].index(genotype.genes[path]) in allowed
        for path, allowed in condition.items()
    )
