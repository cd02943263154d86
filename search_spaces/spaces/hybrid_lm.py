"""The large space: all blocks that offer `open_forms`. Every published architecture of the zoo lies in it.

A byte-level decoder of 2 to 8 layers. Each layer chooses its sequence mixer, its channel mixer (or none), its
bits, whether only some tokens pass it, and whether tokens may exit after it; or it is one of the layers that
share their weights.
"""

from __future__ import annotations

from typing import Any

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block, blocks
from search_spaces.blocks.gelu_mlp import MLP
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.quantization.bits import Bits
from search_spaces.spaces import spaces


def sequence_mixer() -> Any:
    """Every way to mix a sequence."""
    return one_of(*_open_forms("sequence"))


def channel_mixer() -> Any:
    """Every way to mix channels, or none."""
    return one_of(None, *_open_forms("channels"))


def _open_forms(mixes: str) -> list[Block]:
    """What the registered blocks offer, by name."""
    return [form for kind in blocks.values() if kind.mixes == mixes for form in kind.open_forms()]


@spaces.add
def hybrid_lm() -> Space:
    """Everything: attention, state spaces, recurrences, convolutions, experts, bits, adaptive depth."""
    layer = Layer(
        sequence_mixer=sequence_mixer(),
        channel_mixer=channel_mixer(),
        bits=Bits(weight=one_of(16, 8, 6, 4, 3, 2, 1.58), activation=one_of(16, 8), state=one_of(16, 8, 4)),
        routing=one_of(None, MixtureOfDepths(capacity=one_of(0.125, 0.25, 0.5))),
        exit=one_of(None, EarlyExit(threshold=0.1)),
    )
    shared = Layer(
        sequence_mixer=Attention(num_heads=4, head_dim=16),
        channel_mixer=MLP(expansion=4),
        shared="attention",
        reads_embedding=True,
    )
    stack = repeat(one_of(layer, shared), depths=(2, 4, 6, 8))
    decoder = Decoder(vocab=256, d_model=one_of(64, 96, 128), layers=stack)
    return Space(decoder, name="hybrid_lm", defaults={"baselines": ["zoo:transformer"]})
