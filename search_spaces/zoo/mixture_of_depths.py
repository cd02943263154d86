"""Mixture-of-depths: in every second layer only an eighth of the tokens passes."""

from __future__ import annotations

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.zoo import D_MODEL, Published, zoo

ATTENTION = Attention(num_heads=4, num_kv_heads=4, head_dim=16)
FULL = Layer(sequence_mixer=ATTENTION, channel_mixer=SwiGLU(expansion=3))
ROUTED = Layer(
    sequence_mixer=ATTENTION, channel_mixer=SwiGLU(expansion=3), routing=MixtureOfDepths(capacity=0.125)
)
LAYERS = (FULL, ROUTED) * 2

zoo.add(
    Published(
        name="mixture_of_depths",
        family="adaptive depth",
        paper="Raposo et al. 2024",
        arxiv="2404.02258",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
    )
)
